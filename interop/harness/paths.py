"""Where things are."""

from pathlib import Path

INTEROP = Path(__file__).resolve().parent.parent
REPOSITORY = INTEROP.parent

WORK = INTEROP / ".work"
"""Everything that is downloaded, built or logged; not in version control, safe to delete."""

LOGS = WORK / "log"
