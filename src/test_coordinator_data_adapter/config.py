"""Every setting of the library, with its unit and its default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.server_url import (
    mask_password,
    parse_server_url,
    postgres_target,
)
from test_coordinator_data_adapter.tls import default_tls_mode

__all__ = [
    "AdapterConfig",
    "Source",
    "closest_variable",
    "mask_password",
    "sources_of_settings",
    "unknown_variables",
]

_PREFIX: Final = "TEST_COORDINATOR_ADAPTER_"
# What `BaseSettings` takes beside the settings, such as `_env_file`.
_KEYWORDS: Final = frozenset(
    name for name in signature(BaseSettings.__init__).parameters if name.startswith("_")
)
_PRODUCTION: Final = frozenset({"prd", "prod", "production"})

Source = Literal["default", "environment", "file", "derived"]
"""Where a value comes from; "derived": from other settings."""


def _rule(words: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}", {"rule": words})


def _url_of(*schemes: str) -> Callable[[str], str]:
    allowed = ", ".join(f"{scheme}://" for scheme in schemes)

    def check(url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in schemes:
            raise _rule(f"must begin with one of {allowed}")
        if not rest or re.search(r"[\s\x00-\x1f]", rest):
            raise _rule("must name a host after the scheme, without white space")
        return url

    return check


_PostgresUrl = Annotated[
    str, AfterValidator(_url_of("postgresql+asyncpg", "postgresql", "postgres"))
]
_RedisUrl = Annotated[
    str,
    AfterValidator(_url_of("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")),
]


def _instance_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", name):
        raise _rule("must be letters, digits and inner hyphens, at most 63 characters")
    if name.lower() == "services":
        raise _rule('must not be "services": the family\'s registry has that name')
    return name


def _schema(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise _rule("must be lower-case letters, digits and underscores, at most 63 characters")
    if name.startswith("pg_") or name == "information_schema":
        raise _rule("must not be a name that PostgreSQL reserves (pg_..., information_schema)")
    return name


def _namespace(name: str) -> str:
    if not re.fullmatch(r"[^\x00-\x20\x7f{}]{1,255}", name) or name.endswith(":"):
        raise _rule("must be 1 to 255 characters without spaces or braces, not ending in a colon")
    return name


def _level(name: str) -> str:
    if name.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise _rule("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return name.upper()


_InstanceName = Annotated[str, AfterValidator(_instance_name)]
_Schema = Annotated[str, AfterValidator(_schema)]
_Namespace = Annotated[str, AfterValidator(_namespace)]
_Level = Annotated[str, AfterValidator(_level)]
# No shell expands what stands in a file or in quotes.
_Path = Annotated[Path, AfterValidator(Path.expanduser)]
# Every wait is bounded: no infinity, and no more milliseconds than PostgreSQL can count.
_Seconds = Annotated[float, Field(gt=0, le=2_147_483)]

Tls = Literal["disable", "prefer", "require", "verify-full"]  # the values of the settings

_URLS: Final = ("postgres_url", "redis_url", "migration_url")


class AdapterConfig(BaseSettings):
    """The settings, from arguments, then the environment, then a ``.env`` file.

    Every field is also read from ``TEST_COORDINATOR_ADAPTER_<FIELD>``. Unknown variables with
    this prefix are ignored; the first factory logs a WARNING that names them. `repr`, dumps and
    validation errors never show a password, though the URL fields hold the plain text they were
    given.

    Raises:
        pydantic.ValidationError: a value breaks its rule, or a keyword is no setting; every one
            is named.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    service_name: _InstanceName = Field(
        default="test-coordinator", description="What the service is called."
    )
    service_instance_name: _InstanceName = Field(
        default_factory=lambda data: data.get("service_name", "test-coordinator"),
        description="Which instance of it this is; default: the service's name.",
    )
    service_version: str = Field(default="0.0.0", description="The version the service runs.")
    environment: str = Field(
        default="development",
        min_length=1,
        description='Where it runs; "production" or "prod", in small letters or capitals, also'
        " followed by a digit or another word, is stricter.",
    )
    startup_strict: bool = Field(
        default_factory=lambda data: _is_production(str(data.get("environment"))),
        description="Whether a misconfigured backend stops initialize(); default: in production.",
    )
    in_memory: bool = Field(
        default=False, description="Use no infrastructure at all: keep everything in memory."
    )
    embedded_data_dir: _Path | None = Field(
        default=None,
        description="A folder for private PostgreSQL and Redis-compatible servers, instead of"
        " postgres_url and redis_url.",
    )

    postgres_url: _PostgresUrl = Field(
        default="postgresql+asyncpg://test_coordinator_adapter:test-pass@localhost:5432/trading_ecosystem",
        description="Where PostgreSQL is, as the role that reads and writes.",
    )
    migration_url: _PostgresUrl | None = Field(
        default=None,
        description="Where PostgreSQL is, as the role that owns the schema; for migrate and audit.",
    )
    postgres_schema: _Schema = Field(
        default_factory=lambda data: (
            str(data.get("service_instance_name", "test-coordinator")).lower().replace("-", "_")
        ),
        description="The schema of this instance; default: its name with underscores.",
    )
    postgres_pool_size: PositiveInt = Field(default=10, description="Connections kept open.")
    postgres_max_overflow: NonNegativeInt = Field(
        default=20, description="Connections opened beyond these under load."
    )
    postgres_pool_timeout: _Seconds = Field(
        default=30, description="Seconds to wait for a connection."
    )
    postgres_pool_recycle: _Seconds = Field(
        default=3600, description="Seconds after which a connection is replaced."
    )
    postgres_connect_timeout: _Seconds = Field(
        default=3, description="Seconds to wait for the server to accept a connection."
    )
    postgres_lock_timeout: _Seconds = Field(
        default=2, description="Seconds a statement waits for a lock."
    )
    postgres_idle_in_transaction_timeout: _Seconds = Field(
        default=10, description="Seconds after which the server ends an idle transaction."
    )
    postgres_tls: Tls = Field(
        default_factory=lambda data: _default_tls(data),  # noqa: PLW0108 - defined further down
        description="Encryption of the connection; default: verify-full in production for hosts"
        " that are not loopback, else prefer.",
    )
    postgres_tls_ca: _Path | None = Field(
        default=None, description="The CA that signed the server."
    )
    postgres_tls_cert: _Path | None = Field(default=None, description="The client's certificate.")
    postgres_tls_key: _Path | None = Field(default=None, description="That certificate's key.")
    query_timeout: _Seconds = Field(default=30, description="Seconds a statement may take.")
    batch_size: int = Field(
        default=100, ge=1, le=10_000, description="Rows that travel at once in streams."
    )
    log_sql_queries: bool = Field(
        default=False, description="Log every statement (at DEBUG), never its parameters."
    )

    redis_url: _RedisUrl = Field(default="redis://localhost:6379/0", description="Where Redis is.")
    redis_cluster: bool = Field(default=False, description="Whether that is a Redis Cluster.")
    redis_namespace: _Namespace = Field(
        default_factory=lambda data: (
            str(data.get("service_name", "test-coordinator")).partition("-")[0]
            + ":"
            + str(data.get("service_instance_name", "test-coordinator"))
        ),
        description="What every key of this instance begins with; default: first word of the"
        " service's name, a colon, the instance's name.",
    )
    redis_registry: _Namespace = Field(
        default_factory=lambda data: (
            str(data.get("service_name", "test-coordinator")).partition("-")[0] + ":services"
        ),
        description="What every key of the registry, which the family of instances shares,"
        " begins with; default: first word of the service's name, a colon, services.",
    )
    redis_pool_size: PositiveInt = Field(
        default=10, description="Connections at most; on a cluster, to each of its servers."
    )
    redis_pool_timeout: _Seconds = Field(default=5, description="Seconds to wait for one.")
    redis_socket_timeout: _Seconds = Field(default=5, description="Seconds a command may take.")
    redis_socket_connect_timeout: _Seconds = Field(
        default=5, description="Seconds to wait for the server to accept a connection."
    )
    redis_sentinel_username: str | None = Field(
        default=None, description="Who to be for the Sentinels of a redis+sentinel:// URL."
    )
    redis_sentinel_password: SecretStr | None = Field(
        default=None, description="The Sentinels' own password, where they want one."
    )
    redis_tls_ca: _Path | None = Field(default=None, description="The server's authority.")
    redis_tls_cert: _Path | None = Field(default=None, description="The client's certificate.")
    redis_tls_key: _Path | None = Field(default=None, description="That certificate's key.")

    cache_reads: bool = Field(
        default=False, description="Whether get_by_id is answered from Redis where it can be."
    )
    cache_ttl_default: PositiveInt = Field(
        default=300, description="Seconds chaos events stay cached."
    )
    cache_ttl_scenarios: PositiveInt = Field(
        default=600, description="Seconds scenarios stay cached."
    )
    cache_ttl_test_runs: PositiveInt = Field(
        default=300, description="Seconds test runs stay cached."
    )
    cache_ttl_results: PositiveInt = Field(
        default=180, description="Seconds test results stay cached."
    )

    heartbeat_interval: _Seconds = Field(
        default=30, description="Seconds between two heartbeats of a registered service."
    )
    stale_service_threshold: _Seconds = Field(
        default=300, description="Seconds of silence after which a service counts as gone."
    )
    health_check_timeout: _Seconds = Field(default=5, description="Seconds health_check may take.")

    scenarios_retention_days: NonNegativeInt = Field(
        default=365, description="Days archived and deprecated scenarios are kept; 0: for ever."
    )
    test_runs_retention_days: NonNegativeInt = Field(
        default=90, description="Days finished test runs are kept; 0: for ever."
    )
    chaos_events_retention_days: NonNegativeInt = Field(
        default=90, description="Days chaos events are kept; 0: for ever."
    )
    test_results_retention_days: NonNegativeInt = Field(
        default=90, description="Days test results are kept; 0: for ever."
    )

    audit_retention_days: NonNegativeInt = Field(
        default=0,
        description="Days `audit prune` keeps sealed audit records; 0: for ever.",
    )
    retention_keep_last_runs: NonNegativeInt = Field(
        default=0,
        description="Runs of each scenario that stay whatever their age, with all that hangs on"
        " them: the ones created last.",
    )

    audit_actor: str = Field(
        default_factory=lambda data: data.get("service_instance_name", "test-coordinator"),
        min_length=1,
        max_length=255,
        pattern=r"^\P{Cc}+$",
        description="Who the audit trail says acts where audit_context does not say; default: the"
        " instance's name.",
    )

    log_level: _Level = Field(default="INFO", description="The least level this library logs at.")
    slow_query_threshold_ms: NonNegativeFloat = Field(
        default=1000,
        description="Milliseconds after which a statement is logged as slow; 0: never.",
    )

    def postgres_tls_to(self, url: str) -> Tls:
        """Encryption of the connection to another PostgreSQL URL than ``postgres_url``.

        It is ``postgres_tls`` where that is given, otherwise what its default is for the hosts
        of that URL.
        """
        if "postgres_tls" in self.model_fields_set:
            return self.postgres_tls
        return _tls_by_default(self.environment, url)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stale_service_threshold <= self.heartbeat_interval:
            raise _rule("stale_service_threshold must be greater than heartbeat_interval")
        for backend in ("postgres", "redis"):
            cert = getattr(self, f"{backend}_tls_cert")
            key = getattr(self, f"{backend}_tls_key")
            if (cert is None) != (key is None):
                raise _rule(f"{backend}_tls_cert and {backend}_tls_key must be given together")
        return self

    if not TYPE_CHECKING:  # for type checkers every field is an argument

        def __init__(self, **values: object) -> None:
            error: ValidationError | None = None
            unknown = sorted(values.keys() - _KEYWORDS - type(self).model_fields.keys())
            try:
                super().__init__(**{k: v for k, v in values.items() if k not in unknown})
            except ValidationError as broken:
                error = broken
            except (OSError, UnicodeDecodeError) as unreadable:
                error = _broken_file(unreadable)
            if unknown:
                error = _with_unknown(error, unknown)
            if error is not None:
                # Error trackers record the local variables of every frame: none holds a URL.
                del values
                raise _without_frames(error)

        @classmethod
        def model_validate(cls, obj: object, **options: object) -> Self:
            """Validate a dictionary of settings, as the constructor does."""
            error: ValidationError | None = None
            try:
                return super().model_validate(obj, **options)
            except ValidationError as broken:
                error = broken
            del obj, options  # as in __init__
            raise _without_frames(error)

    @model_validator(mode="wrap")
    @classmethod
    def _without_inputs(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # hide_input_in_errors covers str() of an error only; errors() and json() carry the
        # inputs, and with them a password, unless they are replaced.
        try:
            return handler(data)
        except ValidationError as broken:
            raise _error_of(
                (problem["loc"], problem["msg"])
                for problem in broken.errors(include_url=False, include_input=False)
                # A field that is derived from a broken one is no problem of its own.
                if problem["type"] != "default_factory_not_called"
            ) from None

    @field_serializer(*_URLS)
    def _masked(self, url: str | None) -> str | None:
        return None if url is None else mask_password(url)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name and value of every field, URLs without their passwords."""
        for name, value in super().__repr_args__():
            masked = name in _URLS and isinstance(value, str)
            yield name, mask_password(value) if masked else value


def unknown_variables() -> list[str]:
    """The names of environment variables, and of lines in ``.env``, that look like settings.

    They have the prefix of this library, and no setting has that name. Those that begin with
    ``TEST_`` after the prefix belong to its tests.
    """
    names: dict[str, str] = {}
    with suppress(OSError, UnicodeDecodeError):  # an unreadable file is an error of the config
        names = {
            name.upper(): name.upper() for name in DotEnvSettingsSource(AdapterConfig).env_vars
        }
    names |= {name.upper(): name for name in os.environ}
    known = {f"{_PREFIX}{field}".upper() for field in AdapterConfig.model_fields}
    return sorted(
        name
        for key, name in names.items()
        if key.startswith(_PREFIX) and not key.startswith(f"{_PREFIX}TEST_") and key not in known
    )


def closest_variable(name: str) -> str | None:
    """The variable that an unknown one may be meant to be."""
    field = _closest_setting(name[len(_PREFIX) :].lower())
    return f"{_PREFIX}{field}".upper() if field else None


def _closest_setting(name: str) -> str | None:
    return next(iter(get_close_matches(name, AdapterConfig.model_fields, n=1)), None)


def sources_of_settings() -> dict[str, Source]:
    """Where ``AdapterConfig()`` takes the value of each setting from."""
    in_environment = EnvSettingsSource(AdapterConfig)()
    in_file = DotEnvSettingsSource(AdapterConfig)()

    def source(name: str, field: FieldInfo) -> Source:
        if name in in_environment:
            return "environment"
        if name in in_file:
            return "file"
        return "derived" if field.default_factory else "default"

    return {name: source(name, field) for name, field in AdapterConfig.model_fields.items()}


def _broken_file(error: Exception) -> ValidationError:
    why = "it is not UTF-8"
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
    return _error_of([((".env",), f"the file cannot be read: {why}")])


def _with_unknown(error: ValidationError | None, names: Iterable[str]) -> ValidationError:
    """The same problems, and one for each keyword that is no setting."""
    problems = error.errors(include_url=False, include_input=False) if error else []
    found = [(problem["loc"], problem["msg"]) for problem in problems]
    for name in names:
        closest = _closest_setting(name)
        hint = f"; did you mean {closest}?" if closest else ""
        found.append(((name,), f"is no setting{hint}"))
    return _error_of(found)


def _error_of(problems: Iterable[tuple[tuple[int | str, ...], str]]) -> ValidationError:
    """An error without inputs, which may contain a password."""
    details = [
        InitErrorDetails(type=_rule(message), loc=where, input="(hidden)")
        for where, message in problems
    ]
    return ValidationError.from_exception_data("AdapterConfig", details, hide_input=True)


def _without_frames(error: ValidationError) -> ValidationError:
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def _default_tls(data: dict[str, Any]) -> Tls:
    if data.get("embedded_data_dir") is not None:
        return "prefer"
    return _tls_by_default(str(data.get("environment")), str(data.get("postgres_url", "")))


def _tls_by_default(environment: str, url: str) -> Tls:
    hosts: Iterable[str] = ("unknown",)
    with suppress(ConfigurationError):  # opening the connection reports it
        parsed = parse_server_url(url, subject="postgres_url")
        target = postgres_target(parsed, os.environ, subject="postgres_url")
        hosts = [host for host, _ in target.hosts]
    return default_tls_mode(hosts, production=_is_production(environment))


def _is_production(environment: str) -> bool:
    word = re.match("[a-z]+", environment.strip().casefold())
    return word is not None and word[0] in _PRODUCTION
