"""Where things are."""

from pathlib import Path

COMPARE = Path(__file__).resolve().parent.parent
REPOSITORY = COMPARE.parent.parent
RESULTS = COMPARE / "results.json"
PLOT = COMPARE / "results.svg"
README = REPOSITORY / "README.md"
