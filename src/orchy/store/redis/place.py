"""Identifies where a data directory is, so that a copy of it is recognised."""

from __future__ import annotations

from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def place_of(data_dir: Path) -> str:
    """A text that differs for each copy of the directory, here or on another machine.

    It stays the same when the directory is renamed on its file system, and in a clone of a whole machine or volume,
    where nothing differs. Raises OSError.
    """
    stat = data_dir.stat()
    try:
        machine = _MACHINE_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        machine = ""
    return f"{machine}:{stat.st_dev}:{stat.st_ino}"
