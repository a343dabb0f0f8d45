"""`python -m bench`: see bench.py."""

import sys

from bench.bench import main

if __name__ == "__main__":
    sys.exit(main())
