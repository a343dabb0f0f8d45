"""`python -m lessons.bench`: see bench.py."""

import sys

from lessons.bench.bench import main

if __name__ == "__main__":
    sys.exit(main())
