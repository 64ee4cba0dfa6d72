"""Bringing a schema to a revision, and telling which one it has."""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from test_coordinator_data_adapter.adapters.postgres.database import Statement
from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.roles import (
    APPLICATION_ROLE,
    block,
    literal,
    quoted,
)
from test_coordinator_data_adapter.adapters.postgres.translation import (
    DRIVER_ERRORS,
    FORBIDDEN,
    Phase,
    translate,
)
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.resilience.events import contained_logging
from test_coordinator_data_adapter.tls import TlsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from alembic.config import Config
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from test_coordinator_data_adapter.adapters.postgres.database import Database

__all__ = [
    "REVISIONS",
    "VERSION_TABLE",
    "SchemaState",
    "conversion",
    "migrate",
    "migration_sql",
    "revision_id",
    "schema_state",
    "schema_state_at",
]

VERSION_TABLE: Final = "test_coordinator_adapter_version"
"""The schema's own: another application may keep its ``alembic_version`` in the same schema."""
REVISIONS: Final = ("tcda_0001", "tcda_0002", "tcda_0003", "tcda_0004", "tcda_0005", "tcda_0006")
"""Oldest first; the last one is what this library works with. Known without asking Alembic."""

_PREFIX: Final = "tcda_"
# Where revisions up to 0004 were recorded before: without a prefix, in Alembic's default table.
_LEGACY_TABLE: Final = "alembic_version"
_UNDEFINED: Final = frozenset({"42P01", "3F000"})
_ANY_TLS: Final = TlsSettings()
_CONNECT_TIMEOUT: Final = 10.0
# So many seconds after its own time-out the server is taken to be frozen, or gone.
_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which revision a schema has, and which one this library works with.

    Attributes:
        schema: the name of the schema.
        found: its revision; None when there is no schema, or none of ours. Without a prefix
            ("0004") it is recorded where earlier versions of this library did.
        wanted: the revision this library works with.
    """

    schema: str
    found: str | None
    wanted: str = REVISIONS[-1]

    @property
    def is_current(self) -> bool:
        """Whether the library can work with it."""
        return self.found == self.wanted

    def require_current(self) -> None:
        """Refuse to work with another schema.

        Raises:
            ConfigurationError: it is missing, older or newer; the message names the command.
        """
        if not self.is_current:
            raise ConfigurationError(self.problem)

    @property
    def problem(self) -> str:
        """What is wrong with it where it is not current, and which command mends it."""
        if self.found is None:
            problem = "is missing: run `test-coordinator-adapter migrate` as its owner"
        elif revision_id(self.found) in REVISIONS:
            problem = (
                f"is at revision {self.found}, older than {self.wanted}:"
                " run `test-coordinator-adapter migrate` as its owner"
            )
        else:
            problem = (
                f"is at revision {self.found}, which this library does not know:"
                " it is newer, or not ours; install the version that it was migrated with"
            )
        return f"the schema {self.schema!r} {problem}"


def revision_id(name: str) -> str:
    """Returns the identifier of the revision ``name``: "0001" stands for "tcda_0001"."""
    return f"{_PREFIX}{name}" if name.isdecimal() else name


async def schema_state(database: Database) -> SchemaState:
    """The state of the schema a database object works in.

    Raises:
        ConfigurationError: the role may not read it.
        AdapterError: as every read of the waist.
    """
    statement = Statement(_revision_query(database.schema), None, writes=False)
    try:
        row = await database.fetch_one(statement)
    except ConfigurationError as refused:
        if refused.sqlstate not in _UNDEFINED:
            raise
        legacy = Statement(_legacy_revision_query(database.schema), None, writes=False)
        row = await database.fetch_one(legacy)
    return SchemaState(database.schema, None if row is None else row[0])


async def schema_state_at(
    url: str, schema: str, *, tls: TlsSettings = _ANY_TLS, patience: float = 10.0
) -> SchemaState:
    """The state of a schema, over a connection of its own.

    Args:
        url: of a role that may read the schema.
        schema: its name.
        tls: how the way there is protected.
        patience: how many seconds to wait for those who hold locks.

    Raises:
        ConfigurationError: the URL, the credentials or the privileges are wrong.
        OverloadedError: others held a lock all that time.
        UnavailableError: the server does not answer.
    """
    async with (
        _connection(url, tls, patience) as connection,
        asyncio.timeout(patience + _GRACE),
    ):
        return SchemaState(schema, await connection.run_sync(_revision, schema))


async def migrate(
    url: str,
    schema: str,
    *,
    revision: str = "head",
    role: str = APPLICATION_ROLE,
    tls: TlsSettings = _ANY_TLS,
    patience: float = 60.0,
    within: float = 3600.0,
) -> SchemaState:
    """Bring a schema to a revision, in one transaction: it gets there or stays as it was.

    Any number of processes may do so at once: one after the other does what is left to do.

    Args:
        url: of the role that owns the schema, or may create it.
        schema: its name; it is created when it is missing.
        revision: where to go, up or down: one of `REVISIONS` (also without its
            prefix), "head" or "base".
        role: who is granted the use of the tables, if there is such a role.
        tls: how the way there is protected.
        patience: how many seconds to wait for others, those who migrate and those who hold
            locks.
        within: how many seconds the migration itself may take, however large the tables are.

    Returns:
        The state it had before.

    Raises:
        ConfigurationError: the URL, the credentials or the privileges are wrong, or the schema
            is newer than this library knows.
        OverloadedError: others did not finish in time; nothing was changed.
        UnavailableError: the server does not answer; nothing was changed.
        OutcomeUnknownError: its answer to the commit got lost.
    """
    async with _connection(url, tls, patience) as connection:
        async with asyncio.timeout(patience + _GRACE):
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                {"name": f"test-coordinator-data-adapter/{schema}"},
            )
            before = SchemaState(schema, await connection.run_sync(_revision, schema))
        if before.found is not None and revision_id(before.found) not in REVISIONS:
            before.require_current()
        async with asyncio.timeout(within):
            await connection.run_sync(_move, schema, role, before, revision)
    return before


@contained_logging("alembic")
def migration_sql(
    schema: str, *, start: str = "base", revision: str = "head", role: str = APPLICATION_ROLE
) -> str:
    """What `migrate` would run on a schema of a certain revision, as a script for ``psql``.

    Args:
        schema: its name.
        start: the revision it has; "base" when there is none yet.
        revision: where to go, up or down: one of `REVISIONS` (also without its
            prefix), "head" or "base".
        role: who is granted the use of the tables.

    Raises:
        ConfigurationError: there is no such revision.
    """
    from alembic import command

    start, revision = revision_id(start), revision_id(revision)
    move = command.upgrade if _rank(revision) >= _rank(start) else command.downgrade
    script = io.StringIO()
    config = _alembic(schema, role, output=script)
    move(config, f"{start}:{revision}", sql=True)
    return script.getvalue()


@asynccontextmanager
async def _connection(
    url: str, tls: TlsSettings, patience: float
) -> AsyncGenerator[AsyncConnection]:
    """A connection in a transaction that is committed when the block ends.

    Nothing is waited for without an end: neither the connection, nor a lock, nor the commit.
    """
    endpoint = Endpoint.of(url, tls)
    engine = create_async_engine(
        endpoint.url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": endpoint.connect,
            "server_settings": {
                "application_name": "test-coordinator-adapter migrate",
                "lock_timeout": str(max(1, round(patience * 1000))),
                # What nobody waits for any more ends instead of holding its locks.
                "client_connection_check_interval": "1000",
            },
        },
    )
    phase, ending = Phase.CONNECTING, False
    try:
        async with AsyncExitStack() as opening:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                connection = await opening.enter_async_context(engine.connect())
            phase = Phase.SENT
            yield connection
            ending = True
            async with asyncio.timeout(patience + _GRACE):
                await connection.commit()
    except DRIVER_ERRORS as failure:
        told = translate(failure, phase=phase, writes=ending)
        if phase is Phase.SENT and told.sqlstate == FORBIDDEN:
            told = ConfigurationError(
                "the role of this URL may not do that: give the owner's, as migration_url or"
                " with --url",
                sqlstate=FORBIDDEN,
            )
        raise told from None


def _revision_query(schema: str) -> str:
    return f"SELECT max(version_num) FROM {quoted(schema)}.{VERSION_TABLE}"  # noqa: S608 - a quoted name


def _legacy_revision_query(schema: str) -> str:
    """Returns the revision of a schema that is ours, but keeps no version table of its own.

    Its tables tell, and not ``alembic_version``: another application may have written there.
    """
    inside = quoted(schema)
    return f"""SELECT CASE
            WHEN to_regclass({literal(f"{inside}.audit_seals")}) IS NOT NULL THEN '0004'
            WHEN to_regclass({literal(f"{inside}.audit_records")}) IS NOT NULL THEN '0003'
            WHEN EXISTS (
                SELECT FROM pg_attribute
                WHERE attrelid = to_regclass({literal(f"{inside}.test_results")})
                    AND attname = 'phase' AND NOT attisdropped
            ) THEN '0002'
            ELSE '0001'
        END
        FROM pg_proc WHERE oid = to_regprocedure({literal(f"{inside}.health_check()")})
            AND strpos(prosrc, 'max(version_num) FROM {_LEGACY_TABLE}') > 0"""  # noqa: S608 - quoted names


def conversion(schema: str) -> str:
    """Returns one statement that moves the revision of an older schema to a table of its own.

    It changes nothing in a schema that has one, or that is not ours. ``alembic_version`` is
    dropped when it holds our revision and nothing else; otherwise another application uses it.
    """
    inside = quoted(schema)
    mine, legacy = f"{inside}.{VERSION_TABLE}", f"{inside}.{_LEGACY_TABLE}"
    return block(f"""DECLARE
    revision text;
BEGIN
    IF to_regnamespace({literal(inside)}) IS NULL OR to_regclass({literal(mine)}) IS NOT NULL THEN
        RETURN;
    END IF;
    revision := ({_legacy_revision_query(schema)});
    IF revision IS NULL THEN
        RETURN;
    END IF;
    CREATE TABLE {mine} (
        version_num VARCHAR(32) NOT NULL CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY
    );
    INSERT INTO {mine} VALUES ('{_PREFIX}' || revision);
    EXECUTE replace(
        pg_get_functiondef({literal(f"{inside}.health_check()")}::regprocedure),
        '{_LEGACY_TABLE}', '{VERSION_TABLE}'
    );
    IF to_regclass({literal(legacy)}) IS NOT NULL THEN
        IF (SELECT array_agg(version_num::text) FROM {legacy}) = ARRAY[revision] THEN
            DROP TABLE {legacy};
        END IF;
    END IF;
END""")  # noqa: S608 - quoted names


def _revision(connection: Connection, schema: str) -> str | None:
    table = f"{quoted(schema)}.{VERSION_TABLE}"
    exists = connection.scalar(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table})
    query = _revision_query(schema) if exists else _legacy_revision_query(schema)
    revision: str | None = connection.scalar(text(query.replace(":", r"\:")))
    return revision


@contained_logging("alembic")
def _move(
    connection: Connection, schema: str, role: str, before: SchemaState, revision: str
) -> None:
    from alembic import command

    revision = revision_id(revision)
    config = _alembic(schema, role, connection=connection)
    if _rank(revision) >= _rank(before.found or "base"):
        command.upgrade(config, revision)
    else:
        command.downgrade(config, revision)


def _rank(revision: str) -> int:
    if revision == "base":
        return -1
    if revision == "head":
        return len(REVISIONS) - 1
    if revision_id(revision) not in REVISIONS:
        raise ConfigurationError(
            f"there is no revision {revision!r}: name one of {', '.join(REVISIONS)}, head or base",
            setting="revision",
        )
    return REVISIONS.index(revision_id(revision))


def _alembic(
    schema: str,
    role: str,
    *,
    output: io.StringIO | None = None,
    connection: Connection | None = None,
) -> Config:
    from alembic.config import Config

    steps = Path(__file__).parent / "migrations"
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(steps).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema, role=role)
    return config
