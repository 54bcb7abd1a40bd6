"""The one text of a GPU kernel: a file of `csrc/cuda/` with every quoted include expanded in place.

NVRTC compiles this text, the emulation tests compile this text, and caches are keyed by it.
"""

from __future__ import annotations

import re
from pathlib import Path

_INCLUDE = re.compile(r'^#include "([^"]+)"\s*$')


def expand(path: Path, replaced: dict[str, str] | None = None) -> str:
    """`path` with each `#include "file"` expanded once, looked up beside the file that names it.

    `replaced` maps file names to text that stands in for the file's own. `#line` keeps compilers'
    messages on the files. Raises FileNotFoundError naming the file and line of a missing include.
    """
    lines: list[str] = []
    _append(path, replaced or {}, set(), lines)
    return "\n".join(lines) + "\n"


def _append(path: Path, replaced: dict[str, str], seen: set[Path], lines: list[str]) -> None:
    seen.add(path.resolve())
    text = replaced.get(path.name)
    if text is None:
        text = path.read_text(encoding="utf-8")
    lines.append(f'#line 1 "{path.name}"')
    for number, line in enumerate(text.splitlines(), 1):
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
            continue
        included = path.parent / match[1]
        if not included.is_file():
            raise FileNotFoundError(f"[expand] {path}:{number} includes {match[1]}, not found")
        if included.resolve() not in seen:
            _append(included, replaced, seen, lines)
        lines.append(f'#line {number + 1} "{path.name}"')
