"""The directive ``settings-table``: every setting as the code declares it."""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from docutils import nodes
from pydantic_core import PydanticUndefined
from sphinx.util.docutils import SphinxDirective

from test_coordinator_data_adapter.config import AdapterConfig, mask_password

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_HEADINGS = ("Setting", "Type", "Default", "Meaning")
_WIDTHS = (36, 14, 18, 32)


class SettingsTable(SphinxDirective):
    """Renders the fields of ``AdapterConfig``: names, type, default, meaning."""

    def run(self) -> list[nodes.Node]:
        """The table, one row a field, in the order of the class."""
        self.env.note_dependency(__file__)
        prefix = AdapterConfig.model_config.get("env_prefix", "")
        group = nodes.tgroup(cols=len(_HEADINGS))
        group += [nodes.colspec(colwidth=width) for width in _WIDTHS]
        group += nodes.thead("", _row(*(nodes.paragraph("", text) for text in _HEADINGS)))
        body = nodes.tbody()
        for name, field in AdapterConfig.model_fields.items():
            body += _row(
                nodes.paragraph(
                    "",
                    "",
                    nodes.literal("", name),
                    nodes.Text(" "),
                    nodes.literal("", f"{prefix}{name}".upper()),
                ),
                nodes.paragraph(
                    "", "", nodes.literal("", _type_of(field.annotation)), *_bounds_of(field)
                ),
                _default_of(field),
                _meaning_of(name, field),
            )
        group += body
        return [nodes.table("", group, classes=["settings"])]


def _row(*cells: nodes.Node) -> nodes.row:
    row = nodes.row()
    row += [nodes.entry("", cell) for cell in cells]
    return row


def _type_of(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_of(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return " | ".join(_type_of(choice) for choice in get_args(annotation))
    if origin is Literal:
        return " | ".join(repr(choice) for choice in get_args(annotation))
    if annotation is type(None):
        return "None"
    if origin is not None or not isinstance(annotation, type):
        return re.sub(r"\b[\w.]+\.", "", str(annotation))
    return annotation.__name__


def _bounds_of(field: FieldInfo) -> list[nodes.Node]:
    signs = {"gt": ">", "ge": "\N{GREATER-THAN OR EQUAL TO}", "le": "\N{LESS-THAN OR EQUAL TO}"}
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    return [nodes.Text(" " + ", ".join(bounds))] if bounds else []


def _default_of(field: FieldInfo) -> nodes.paragraph:
    if field.is_required():
        return nodes.paragraph("", "required")
    if field.default is PydanticUndefined or field.default_factory is not None:
        return nodes.paragraph("", "derived")
    default = field.default
    shown = mask_password(default) if isinstance(default, str) else default
    return nodes.paragraph("", "", nodes.literal("", repr(shown)))


def _meaning_of(name: str, field: FieldInfo) -> nodes.paragraph:
    if not field.description:
        message = f"AdapterConfig.{name} has no description"
        raise ValueError(message)
    pieces = re.split(r"`{1,2}([^`]+)`{1,2}", " ".join(field.description.split()))
    paragraph = nodes.paragraph()
    for place, piece in enumerate(pieces):
        paragraph += nodes.literal("", piece) if place % 2 else nodes.Text(piece)
    return paragraph


def setup(app: Sphinx) -> ExtensionMetadata:
    """Make the directive known to Sphinx."""
    app.add_directive("settings-table", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
