"""The program `test-coordinator-adapter`, also reached by `python -m`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_PROGRAM = "test-coordinator-adapter"
_NEEDED = frozenset({"rich", "typer"})


def main() -> int:
    """Runs the command line.

    Returns:
        2 when the packages of the extra ``cli`` are missing; otherwise the command line
        ends the process itself with its own exit code.
    """
    try:
        from test_coordinator_data_adapter.cli import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(
            f"{_PROGRAM} needs {missing.name}, which is not installed. Install it with\n"
            "  pip install 'test-coordinator-data-adapter[cli]'\n"
        )
        return 2
    app(prog_name=_PROGRAM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
