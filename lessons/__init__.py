"""Each lesson is a folder. Ours come first, whatever is called data where they are run from."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[1])
if sys.path[0] != ROOT:
    sys.path.insert(0, ROOT)
