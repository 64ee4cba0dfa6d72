"""What commands print: tables on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = [
    "EXIT_NO_READER",
    "EXIT_NO_ROOM",
    "colored",
    "duration",
    "errors",
    "has_colors",
    "output",
    "plain",
    "ratio",
    "show",
    "table",
    "written",
]

EXIT_NO_READER: Final = 141
"""Whoever read what the command prints stopped; what shells say of a program that SIGPIPE ended."""
EXIT_NO_ROOM: Final = 74
"""What the command prints cannot be written, such as to a full disk."""

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


def written(command: Callable[[], object], program: str) -> int:
    """The exit code of a program, once all that it printed is written.

    Args:
        command: what ends with `SystemExit`, its printing perhaps still in a buffer.
        program: what it is called, for people.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell's `>&-`: nobody wants to see it
            unseen = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
            setattr(sys, name, unseen)
    code: object = None
    try:
        try:
            command()
        except SystemExit as ended:
            if isinstance(ended.__context__, BrokenPipeError):
                # Those who made this of it say 1, which is an answer of several commands.
                raise ended.__context__ from None
            code = ended.code
        sys.stdout.flush()
    except OSError as failed:
        unread = isinstance(failed, BrokenPipeError)
        if not unread:
            with suppress(OSError):  # both may go to the same full disk
                sys.stderr.write(f"{program}: {failed}\n")
        # What is left in the buffers would fail once more when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return EXIT_NO_READER if unread else EXIT_NO_ROOM
    return code if isinstance(code, int) else int(code is not None)
