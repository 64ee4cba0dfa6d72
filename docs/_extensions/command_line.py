"""The directives ``command-line`` and ``exit-codes``: the program as the code defines it."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Final

from docutils import nodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command

from test_coordinator_data_adapter import cli
from test_coordinator_data_adapter.cli import program
from test_coordinator_data_adapter.cli.program import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

_PROGRAM: Final = "test-coordinator-adapter"
# typer's own: they concern the shell of the reader, not this program.
_LEFT_OUT: Final = {"--install-completion", "--show-completion"}


class CommandLine(SphinxDirective):
    """Renders every command of the program: usage, help, arguments and options."""

    def run(self) -> list[nodes.Node]:
        """A section for each command, in alphabetical order, the program itself first."""
        self.env.note_dependency(__file__)
        for module in _modules():
            self.env.note_dependency(inspect.getsourcefile(module) or "")
        root = get_command(cli.app)
        return [self._section(name, command) for name, command in _commands(_PROGRAM, root)]

    def _section(self, name: str, command: Any) -> nodes.section:
        title = name.removeprefix(f"{_PROGRAM} ")
        section = nodes.section(
            ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)]
        )
        section += nodes.title("", title)
        section += nodes.literal_block("", f"{name} {_usage(command)}".rstrip(), language="text")
        section += _paragraphs(command.help)
        listed = nodes.definition_list()
        for parameter in command.params:
            if not _LEFT_OUT.isdisjoint(parameter.opts):
                continue
            listed += _item(parameter)
        if listed.children:
            section += listed
        self.state.document.note_implicit_target(section, section)
        return section


class ExitCodes(SphinxDirective):
    """Renders the exit codes of the program, the same for every command."""

    def run(self) -> list[nodes.Node]:
        """A table: code and meaning."""
        self.env.note_dependency(__file__)
        self.env.note_dependency(inspect.getsourcefile(program) or "")
        meanings = ModuleAnalyzer.for_module(program.__name__).find_attr_docs()
        rows = [
            (str(code.value), " ".join(meanings[ExitCode.__name__, code.name]).strip())
            for code in ExitCode
        ]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (8, 92)), cols=2)
        group += nodes.thead("", _row("Code", "Meaning"))
        group += nodes.tbody("", *(_row(*row) for row in rows))
        return [nodes.table("", group)]


def _modules() -> list[Any]:
    return [import_module(f"{cli.__name__}.{found.name}") for found in iter_modules(cli.__path__)]


def _commands(name: str, command: Any) -> Iterable[tuple[str, Any]]:
    if getattr(command, "callback", None) is not None or name == _PROGRAM:
        yield name, command
    for part, inner in sorted(getattr(command, "commands", {}).items()):
        if not inner.hidden:
            yield from _commands(f"{name} {part}", inner)


def _usage(command: Any) -> str:
    words = ["[OPTIONS]"] if any(one.param_type_name == "option" for one in command.params) else []
    words += [one.metavar or one.name.upper() for one in _arguments(command)]
    if getattr(command, "commands", None):
        words.append("COMMAND")
    return " ".join(words)


def _arguments(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "argument"]


def _item(parameter: Any) -> nodes.definition_list_item:
    if parameter.param_type_name == "argument":
        names = [parameter.metavar or parameter.name.upper()]
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.type.name.upper()}"
        names = [f"{name}{value}" for name in (*parameter.opts, *parameter.secondary_opts)]
    term = nodes.term()
    for place, name in enumerate(names):
        term += [nodes.Text(", ")] if place else []
        term += nodes.literal("", name)
    said = nodes.paragraph("", "", *_inline(parameter.help or ""))
    if isinstance(parameter.default, str):
        said += [nodes.Text(" Default: "), nodes.literal("", parameter.default), nodes.Text(".")]
    return nodes.definition_list_item("", term, nodes.definition("", said))


def _paragraphs(help_: str | None) -> list[nodes.Node]:
    told: list[nodes.Node] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(help_ or "")):
        if block.startswith("    "):
            told.append(nodes.literal_block("", inspect.cleandoc(block), language="text"))
        elif block:
            told.append(nodes.paragraph("", "", *_inline(" ".join(block.split()))))
    return told


def _inline(text: str) -> list[nodes.Node]:
    pieces = re.split(r"`{1,2}([^`]+)`{1,2}|(?<![\w-])(--[a-z-]+)", text)
    shown: list[nodes.Node] = []
    for place, piece in enumerate(pieces):
        if piece:
            shown.append(nodes.literal("", piece) if place % 3 else nodes.Text(piece))
    return shown


def _row(*cells: str) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", *_inline(cell)))
    return row


def setup(app: Sphinx) -> ExtensionMetadata:
    """Make the directives known to Sphinx."""
    app.add_directive("command-line", CommandLine)
    app.add_directive("exit-codes", ExitCodes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
