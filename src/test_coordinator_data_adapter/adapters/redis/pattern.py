"""Text in Redis globs."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escaped"]

# Outside of brackets, and there are none left, ^ and - mean themselves.
_SPECIAL: Final = re.compile(r"[*?\[\]\\]")


def escaped(text: str) -> str:
    """A Redis glob that matches exactly this text."""
    return _SPECIAL.sub(r"\\\g<0>", text)
