"""`python -m lessons`: see runner.py; also `python FOLDER/lessons`, from anywhere."""

import sys
from pathlib import Path

if not __package__:
    sys.path.insert(0, str(Path(__file__).parents[1]))

from lessons.runner import main

if __name__ == "__main__":
    sys.exit(main())
