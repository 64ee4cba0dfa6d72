"""What commands print: tables on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = [
    "colored",
    "duration",
    "errors",
    "has_colors",
    "output",
    "plain",
    "ratio",
    "say",
    "show",
    "table",
]

_STYLES = {
    "passed": "green",
    "recovered": "green",
    "imported": "green",
    "failed": "red",
    "error": "red",
    "refused": "red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "timeout": "yellow",
    "injected": "yellow",
    "pending": "dim",
    "already there": "dim",
}


def output() -> Console:
    """Standard output: what the command was asked for."""
    return Console(highlight=False, markup=False, emoji=False)


def errors() -> Console:
    """Standard error: what went wrong, and what is only for people."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def has_colors(console: Console) -> bool:
    """Whether what is printed there may be coloured."""
    return console.is_terminal and console.color_system is not None and not console.no_color


def plain(text: str) -> str:
    """Text without characters that could move a terminal's cursor or change its colours."""
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd"
        for character in text
    )


def colored(word: str) -> Text:
    """A status in its colour, on terminals that have colours."""
    return Text(plain(word), style=_STYLES.get(word, ""))


def ratio(part: float) -> str:
    """A share as per cent."""
    return f"{part:.0%}"


def duration(milliseconds: float | None) -> str:
    """A duration for people: milliseconds below a second, seconds below two minutes."""
    if milliseconds is None:
        return "-"
    if round(milliseconds) < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds:.0f} ms"
    if milliseconds < 120_000:  # noqa: PLR2004 - two minutes
        return f"{milliseconds / 1000:.2f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


class _Table(Table):
    """A table that breaks no word: where it does not fit, each row becomes lines of its own."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update_width(10_000)
        natural: list[int] = []
        for column in self.columns:
            cells = [
                Measurement.get(console, unlimited, cell) for cell in (column.header, *column.cells)
            ]
            natural.append(max(cell.maximum for cell in cells))
            longest_word = max(cell.minimum for cell in cells)
            column.width = natural[-1] if column.no_wrap else longest_word
        spare = options.max_width - Measurement.get(console, unlimited, self).maximum
        if spare < 0:
            yield from self._records(console, options.max_width)
            return
        missing = [
            most - (column.width or 0) for most, column in zip(natural, self.columns, strict=True)
        ]
        share = min(1.0, spare / (sum(missing) or 1))
        for column, more in zip(self.columns, missing, strict=True):
            column.width = (column.width or 0) + int(more * share)
        yield from super().__rich_console__(console, options)

    def _records(self, console: Console, width: int) -> RenderResult:
        indent = max(len(str(column.header)) for column in self.columns) + 2
        yield Text(str(self.title), style="bold")
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            yield Text("")
            for column, cell in zip(self.columns, cells, strict=True):
                text = cell if isinstance(cell, Text) else Text(str(cell))
                lines = text.wrap(console, max(width - indent, _longest_word(text)))
                for number, line in enumerate(lines):
                    head = "" if number else str(column.header)
                    yield Text(head.ljust(indent), overflow="ignore", no_wrap=True).append_text(
                        line
                    )


def _print(console: Console, text: Text, *, whole: bool) -> None:
    """Print text, its lines unbroken or broken between words."""
    lines = [text] if whole else text.wrap(console, max(console.width, _longest_word(text)))
    for line in lines:
        console.print(line, soft_wrap=True)


def _longest_word(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=1)


def table(title: str, columns: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    """An empty table.

    Args:
        title: what stands above it.
        columns: the headings.
        right: the headings of columns of numbers, which are never broken.
    """
    made = _Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        numbers = column in right
        made.add_column(column, justify="right" if numbers else "left", no_wrap=numbers)
    return made


def say(message: str) -> None:
    """Prints a message on standard error; a terminal breaks its lines between words only.

    Characters that could move a terminal's cursor or change its colours are replaced.
    """
    console = errors()
    for line in message.split("\n"):
        _print(console, Text(plain(line)), whole=not console.is_terminal)


def show(*parts: RenderableType) -> None:
    """Prints on standard output, an empty line between the parts.

    Lines are as wide as the terminal, or 80 columns without one, and broken between words
    only; without a terminal no line ends in blanks, and plain text is left as it is.
    """
    console = output()
    with console.capture() as captured:
        for position, part in enumerate(parts):
            if position:
                console.print()
            if isinstance(part, str):
                _print(console, Text(part), whole=not console.is_terminal)
            else:
                console.print(part, crop=False)
    text = captured.get()
    if not console.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    sys.stdout.write(text)
