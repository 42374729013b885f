"""The memory of this process, as Linux counts it. Runs in a worker process."""

from __future__ import annotations

import os

#: Kept open, as it is read for each script.
_STATUS = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
_STATUS_BYTES_MAX = 16 * 1024


def status_bytes(field: str) -> int:
    """VmData (writable), VmRSS (resident) or VmHWM (peak resident), see proc_pid_status(5).

    VmHWM rather than ru_maxrss of getrusage(2), which a process inherits from its parent.
    """
    _, _, rest = os.pread(_STATUS, _STATUS_BYTES_MAX, 0).partition(b"\n" + field.encode() + b":")
    return int(rest.split(maxsplit=1)[0]) * 1024
