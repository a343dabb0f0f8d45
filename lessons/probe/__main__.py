"""`python -m lessons.probe CHECKPOINT`: see probe.py."""

import sys

from lessons.probe.probe import main

if __name__ == "__main__":
    sys.exit(main())
