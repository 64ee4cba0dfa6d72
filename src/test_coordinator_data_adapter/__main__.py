"""The program `test-coordinator-adapter`, also reached by `python -m`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_PROGRAM = "test-coordinator-adapter"
_NEEDED = frozenset({"rich", "typer"})


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code: 2 when the packages of the extra ``cli`` are missing, otherwise the
        command's own, or one that says that its answer could not be written.
    """
    try:
        from test_coordinator_data_adapter.cli import app
        from test_coordinator_data_adapter.cli.program import run_and_flush
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(
            f"{_PROGRAM} needs {missing.name}, which is not installed. Install it with\n"
            "  pip install 'test-coordinator-data-adapter[cli]'\n"
        )
        return 2
    return run_and_flush(lambda: app(prog_name=_PROGRAM), _PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
