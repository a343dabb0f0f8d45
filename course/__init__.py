"""What a course is made of. Ours come first, as in lessons."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])
if sys.path[0] != ROOT:
    sys.path.insert(0, ROOT)
