"""How every command runs: its exit codes, its failures, its help."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, Final, TypeVar

import anyio
import orjson
import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from test_coordinator_data_adapter.cli.screen import plain, say
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)

__all__ = [
    "CommandError",
    "ExitCode",
    "Program",
    "add_command",
    "new_group",
    "run",
    "run_and_flush",
]

Result = TypeVar("Result")

_VERBOSE: Final = frozenset({"-v", "--verbose"})
_MAX_HELP_WIDTH: Final = 100
_MAX_NAMES_WIDTH: Final = 24


class ExitCode(IntEnum):
    """How a command ended; every command uses these."""

    DONE = 0
    """Done, and the answer is the good one."""
    NEGATIVE = 1
    """Done, and the answer is negative: refused, differs, degraded, behind, a rule failed."""
    USAGE = 2
    """The command line, a setting or a file is wrong; nothing was done."""
    DATABASE = 3
    """PostgreSQL or Redis cannot be used: no response, a wrong password, a missing privilege."""
    NOT_ENOUGH_DATA = 4
    """There is not enough data for an answer."""
    DEFECT = 70
    """A defect of this program; standard error shows the traceback."""
    NOT_WRITTEN = 74
    """The output could not be written, for example because the disk is full."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM ended the command."""
    NOT_READ = 141
    """The program that read the output stopped reading, as `head` does."""


class CommandError(Exception):
    """Ends a command with a message on standard error and an exit code.

    With ``--json`` standard output gets ``{"error": {...}}`` with the same message.
    """

    def __init__(
        self, message: str, exit_code: ExitCode = ExitCode.USAGE, **details: object
    ) -> None:
        """Describe the failure.

        Args:
            message: what happened, and what to do; without secrets.
            exit_code: the exit code of the command.
            details: further members of the JSON object.
        """
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.details = details


class _Command(TyperCommand):
    """A command whose help breaks lines between words only."""

    def get_help(self, ctx: Any) -> str:
        """The help, as wide as the terminal."""
        return _help(self, ctx)


class _Group(TyperGroup):
    """A group of commands whose help breaks lines between words only."""

    def get_help(self, ctx: Any) -> str:
        """The help, as wide as the terminal."""
        return _help(self, ctx)


class Program(_Group):
    """The program itself: turns every failure into a message and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - the signature of the base class
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - see above
        **extra: Any,
    ) -> Any:
        """Run one command and exit with its code."""
        arguments, rest = _split(sys.argv[1:] if args is None else args)
        verbose = [one for one in arguments if one in _VERBOSE]
        others = [one for one in arguments if one not in _VERBOSE]

        def call(*, standalone: bool) -> Any:
            return super(Program, self).main(
                [*verbose[:1], *others, *rest],
                prog_name,
                complete_var,
                standalone_mode=standalone,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if not standalone_mode:
            return call(standalone=False)
        as_json = "--json" in arguments
        try:
            code = call(standalone=False)
        except OSError:
            raise  # what was printed could not be written: `run_and_flush` ends the program
        except Exception as error:  # noqa: BLE001 - a traceback is an answer to nobody's question
            code = _report(_failure(error), as_json=as_json)
        else:
            if code == ExitCode.INTERRUPTED:
                code = _report(CommandError("", ExitCode.INTERRUPTED), as_json=as_json)
        sys.exit(code)


def run_and_flush(program: Callable[[], object], name: str) -> int:
    """Run a program and write all of its output.

    Args:
        program: ends with `SystemExit`; its output may still be in a buffer then.
        name: the name of the program, for messages.

    Returns:
        The exit code: the program's own, or that of output that could not be written.
    """
    for stream_name in ("stdout", "stderr"):
        if getattr(sys, stream_name) is None:  # the shell's `>&-`: nobody wants to see it
            unseen = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open to the end
            setattr(sys, stream_name, unseen)
    code: object = None
    try:
        try:
            program()
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
                sys.stderr.write(f"{name}: {failed}\n")
        # What is left in the buffers would fail once more when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return ExitCode.NOT_READ if unread else ExitCode.NOT_WRITTEN
    return code if isinstance(code, int) else int(code is not None)


def new_group(description: str) -> typer.Typer:
    """A group of commands.

    Args:
        description: its help.
    """
    return typer.Typer(help=description, cls=_Group, no_args_is_help=True)


def add_command(group: typer.Typer, name: str, function: Callable[..., object]) -> None:
    """Add a command to a group, or to the program.

    Args:
        group: where to.
        name: how users call it.
        function: its parameters are the options, its docstring is the help.
    """
    group.command(name, cls=_Command)(function)


def run(command: Callable[[], Awaitable[Result]], *, offline: bool = False) -> Result:
    """Run the asynchronous part of a command; SIGTERM cancels it as Ctrl-C does.

    Args:
        command: the function to run.
        offline: whether it contacts no server: then a `ConfigurationError` is about a setting.
    """
    try:
        with _sigterm_as_sigint():
            return anyio.run(command)
    except ConfigurationError as error:
        if not offline:
            raise
        raise CommandError(str(error)) from None


def _interrupt(_signal: int, _frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _sigterm_as_sigint() -> Generator[None]:
    try:
        previous = signal.signal(signal.SIGTERM, _interrupt)
    except ValueError:  # not the main thread: a test runner
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before ``--``, and the rest, which are never options."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:end]), list(arguments[end:])


def _failure(error: Exception) -> CommandError:
    """What a command reports of an exception."""
    match error:
        case CommandError():
            failure = error
        case typer.TyperException():
            failure = _usage_failure(error)
        case typer.Abort():
            failure = CommandError("", ExitCode.INTERRUPTED)
        case ValidationError(title="AdapterConfig"):
            failure = _settings_failure(error)
        case AdapterError():
            failure = CommandError(plain(str(error)), _exit_code(error))
        case _:
            traceback.print_exception(error)
            failure = CommandError(
                "This is a defect of test-coordinator-adapter: please report it.", ExitCode.DEFECT
            )
    return failure


def _exit_code(error: AdapterError) -> ExitCode:
    match error:
        case InvalidValueError() | ConfigurationError(setting=str()):
            return ExitCode.USAGE
        case NotFoundError() | ConflictError() | DuplicateError():
            return ExitCode.NEGATIVE
        case _:
            return ExitCode.DATABASE


def _usage_failure(error: typer.TyperException) -> CommandError:
    message = error.format_message()
    if message.startswith("Usage:"):  # no arguments at all: the help is all there is to say
        return CommandError(message, ExitCode.USAGE)
    context = getattr(error, "ctx", None)
    if context is not None:
        message = f"{message}\nSee '{context.command_path} --help'."
    return CommandError(message, ExitCode.USAGE)


def _settings_failure(error: ValidationError) -> CommandError:
    problems = [
        {"setting": ".".join(map(str, problem["loc"])) or None, "rule": problem["msg"]}
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    # A rule between several settings names them itself.
    lines = [
        ": ".join(filter(None, ("configuration", problem["setting"], problem["rule"])))
        for problem in problems
    ]
    return CommandError("\n".join(lines), ExitCode.USAGE, settings=problems)


def _report(failure: CommandError, *, as_json: bool) -> int:
    if failure.message:
        say(failure.message)
    if as_json:
        error = {
            "exit_code": int(failure.exit_code),
            "message": failure.message or failure.exit_code.name.lower(),
            **failure.details,
        }
        sys.stdout.write(orjson.dumps({"error": error}).decode() + "\n")
    return int(failure.exit_code)


def _help(command: Any, context: Any) -> str:
    width = min(shutil.get_terminal_size().columns, _MAX_HELP_WIDTH)
    parameters = command.get_params(context)
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one.get_help_record(context) for one in parameters if one not in arguments]
    commands = getattr(command, "commands", {})
    usage = ["Usage:", context.command_path, "[OPTIONS]", *map(_argument_name, arguments)]
    usage += ["COMMAND [ARGS]..."] if commands else []
    sections = {
        "Arguments": [(_argument_name(one), one.help or "") for one in arguments],
        "Options": [one for one in options if one is not None],
        "Commands": [(name, _summary(one.help or "")) for name, one in commands.items()],
    }
    return "\n\n".join(
        [
            _wrapped(" ".join(usage), width, hanging=7),
            *_paragraphs(command.help or "", width),
            *(f"{title}:\n{_definitions(rows, width)}" for title, rows in sections.items() if rows),
        ]
    )


def _argument_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _paragraphs(text: str, width: int) -> list[str]:
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return [
        block if block.startswith("    ") else _wrapped(block, width) for block in blocks if block
    ]


def _summary(text: str) -> str:
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())


def _definitions(rows: Sequence[tuple[str, str]], width: int) -> str:
    """Names on the left, what they mean beside them, or below a name that is too long."""
    column = min(max(len(names) for names, _ in rows), _MAX_NAMES_WIDTH) + 4
    lines: list[str] = []
    for names, meaning in rows:
        head = f"  {names}"
        if len(head) > column - 2:
            lines += [head, _wrapped(" " * column + meaning, width, hanging=column)]
        else:
            lines.append(_wrapped(head.ljust(column) + meaning, width, hanging=column))
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, width: int, *, hanging: int = 0) -> str:
    wrapper = TextWrapper(
        width,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    indent = len(text) - len(text.lstrip())
    wrapper.initial_indent = " " * indent
    return wrapper.fill(text.lstrip())
