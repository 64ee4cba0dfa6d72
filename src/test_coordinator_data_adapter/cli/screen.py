"""What commands print: tables on standard output, everything else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["colored", "duration", "errors", "output", "plain", "ratio", "show", "table"]

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


def table(title: str, columns: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    """An empty table.

    Args:
        title: what stands above it.
        columns: the headings.
        right: the headings of columns of numbers, which are never broken.
    """
    made = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        numbers = column in right
        made.add_column(
            column, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold"
        )
    return made


def show(*parts: RenderableType) -> None:
    """Prints on standard output, an empty line between the parts.

    Tables are as wide as the terminal, or 80 columns without one; then no line ends in
    blanks. Plain text is left as it is.
    """
    console = output()
    with console.capture() as captured:
        for position, part in enumerate(parts):
            if position:
                console.print()
            console.print(part, soft_wrap=isinstance(part, str))
    text = captured.get()
    if not console.is_terminal:
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    sys.stdout.write(text)
