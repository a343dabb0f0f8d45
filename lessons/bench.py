"""The bench has moved: `python -m bench`."""

import sys

from plumbing.system import say

if __name__ == "__main__":
    say("the bench has moved: python -m bench")
    sys.exit(2)
