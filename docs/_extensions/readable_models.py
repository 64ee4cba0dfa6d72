"""Shows models by their fields and enumerations by their values, not by their constructors."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


def _leave_out_constructor(
    _app: Sphinx, _what: str, _name: str, held: object, *_rest: object
) -> tuple[str, str] | None:
    if inspect.isclass(held) and issubclass(held, BaseModel | Enum):
        return "", ""
    return None


def _list_values(
    _app: Sphinx, _what: str, _name: str, held: object, _options: object, lines: list[str]
) -> None:
    if inspect.isclass(held) and issubclass(held, Enum) and list(held):
        lines += ["", "Values: " + ", ".join(f"``{member.value}``" for member in held) + ".", ""]


def _leave_out_settings(
    _app: Sphinx, _what: str, name: str, _held: object, _skip: object, _options: object
) -> bool | None:
    return True if name == "model_config" else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Listen to what autodoc is about to write."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", _leave_out_constructor)
    app.connect("autodoc-process-docstring", _list_values)
    app.connect("autodoc-skip-member", _leave_out_settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
