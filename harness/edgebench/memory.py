"""Peak resident memory of this process, per stretch of a run.

Linux keeps a high-water mark of the resident set (VmHWM) that a process may reset for itself, so a
kernel's own peak can be told apart. It covers the whole process: whatever else is loaded counts.
Source: https://www.kernel.org/doc/html/latest/filesystems/proc.html (clear_refs, value 5).
"""

from __future__ import annotations

import re
from pathlib import Path

_SELF = Path("/proc/self")


def peak_memory_bytes(process: Path = _SELF) -> int | None:
    """Return the highest resident size since the last reset, None where Linux does not say."""
    try:
        match = re.search(r"^VmHWM:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def reset_peak(process: Path = _SELF) -> bool:
    """Start a new high-water mark at the present size; return whether the kernel allowed it."""
    try:
        with (process / "clear_refs").open("r+") as file:
            file.write("5")
    except OSError:
        return False
    return True
