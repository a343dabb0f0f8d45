"""The exercises have moved: `python -m course.exercises`."""

import sys

from plumbing.system import say

if __name__ == "__main__":
    say("the exercises have moved: python -m course.exercises")
    sys.exit(2)
