"""Where a data directory is, so that a copy of it is known as one."""

from __future__ import annotations

from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def place_of(data_dir: Path) -> str:
    """A text that a copy of the directory, here or on another machine, has another one of.

    A directory that was renamed on its file system has the same. A clone of a whole machine or volume has, too: nothing
    in it differs. Raises OSError.
    """
    stat = data_dir.stat()
    try:
        machine = _MACHINE_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return f"{machine}:{stat.st_dev}:{stat.st_ino}"
