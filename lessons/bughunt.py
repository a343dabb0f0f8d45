"""The bug hunt has moved: `python -m course.bughunt`."""

import sys

from plumbing.system import say

if __name__ == "__main__":
    say("the bug hunt has moved: python -m course.bughunt")
    sys.exit(2)
