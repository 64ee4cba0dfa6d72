"""FastAPI integration: a lifespan, typed dependencies, error responses and health routes.

Needs the extra ``fastapi``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Final, Literal, cast

try:
    from fastapi import APIRouter, Depends, FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.requests import HTTPConnection
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as missing:
    missing.add_note("Install it: pip install 'test-coordinator-data-adapter[fastapi]'")
    raise

from pydantic import ValidationError

from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)
from test_coordinator_data_adapter.factory import AdapterFactory
from test_coordinator_data_adapter.housekeeping import housekeeping
from test_coordinator_data_adapter.interfaces import (
    CacheRepository,
    ChaosEventsRepository,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    TestResultsRepository,
    TestRunsRepository,
)
from test_coordinator_data_adapter.interfaces.audit import AuditRepository
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.values import JsonValue, utc_now
from test_coordinator_data_adapter.observability import Observer

__all__ = [
    "AuditTrail",
    "Cache",
    "ChaosEvents",
    "Factory",
    "Scenarios",
    "Services",
    "TestResults",
    "TestRuns",
    "add_error_handlers",
    "health_router",
    "lifespan",
]

Backend = Literal["postgres", "redis"]
"""A backend that a service may depend on."""

_STATE: Final = "test_coordinator_adapter_factory"
_UNPROCESSABLE: Final = 422
_UNAVAILABLE: Final = 503
_STATUS_CODES: Final[dict[type[AdapterError], int]] = {
    NotFoundError: 404,
    DuplicateError: 409,
    ConflictError: 409,
    InvalidValueError: _UNPROCESSABLE,
}
_RETRY_AFTER: Final = "1"
_BACKENDS: Final[tuple[Backend, ...]] = ("postgres", "redis")
_REQUIRED: Final[tuple[Backend, ...]] = ("postgres",)


def lifespan(
    config: AdapterConfig | None = None,
    *,
    observers: Sequence[Observer] = (),
    host: str | None = None,
    http_port: int = 0,
    grpc_port: int = 0,
    housekeeping_interval: float | None = 30.0,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return a lifespan for `FastAPI`: it opens the factory, and closes it at the end.

    While the application runs, its factory is available through the dependencies of this module.
    An application with a lifespan of its own enters this one in it:
    ``async with lifespan()(app): yield``.

    Args:
        config: the settings; None reads them from the environment when the application starts.
        observers: objects that receive every operation, round trip and change of state.
        host: the address under which other services reach this one. When it is given, the
            service is registered under ``service_instance_name`` while the application runs.
        http_port: its HTTP port, for the registry.
        grpc_port: its gRPC port, for the registry.
        housekeeping_interval: seconds between two rounds of
            `test_coordinator_data_adapter.housekeeping.housekeeping`; None switches it off.

    Raises:
        ConfigurationError: at start-up, when a backend is misconfigured and ``startup_strict``
            is set.
    """

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            factory = await stack.enter_async_context(AdapterFactory(config, observers=observers))
            if host is not None:
                service = _service(factory.config, host, http_port, grpc_port)
                await stack.enter_async_context(factory.registered(service))
            if housekeeping_interval is not None:
                await stack.enter_async_context(
                    housekeeping(factory, interval=housekeeping_interval)
                )
            setattr(app.state, _STATE, factory)
            stack.callback(delattr, app.state, _STATE)
            yield

    return run


def _service(config: AdapterConfig, host: str, http_port: int, grpc_port: int) -> ServiceInfo:
    now = utc_now()
    return ServiceInfo(
        service_id=config.service_instance_name,
        service_name=config.service_name,
        version=config.service_version,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        last_seen=now,
        registered_at=now,
    )


# Dependencies are coroutines on purpose: FastAPI runs plain functions in a thread, and a factory
# belongs to the event loop that opened it.


async def get_factory(connection: HTTPConnection) -> AdapterFactory:
    """Return the factory that the application's lifespan opened.

    Raises:
        RuntimeError: the application runs without `lifespan`.
    """
    factory = getattr(connection.app.state, _STATE, None)
    if factory is None:
        raise RuntimeError(
            "the application has no open factory: create it with FastAPI(lifespan=lifespan())"
        )
    return cast("AdapterFactory", factory)


Factory = Annotated[AdapterFactory, Depends(get_factory)]
"""The application's factory."""


async def _scenarios(factory: Factory) -> ScenariosRepository:
    return factory.get_scenarios_repository()


async def _test_runs(factory: Factory) -> TestRunsRepository:
    return factory.get_test_runs_repository()


async def _chaos_events(factory: Factory) -> ChaosEventsRepository:
    return factory.get_chaos_events_repository()


async def _test_results(factory: Factory) -> TestResultsRepository:
    return factory.get_test_results_repository()


async def _services(factory: Factory) -> ServiceDiscoveryRepository:
    return factory.get_service_discovery_repository()


async def _cache(factory: Factory) -> CacheRepository:
    return factory.get_cache_repository()


async def _audit_trail(factory: Factory) -> AuditRepository:
    return factory.get_audit_repository()


# A repository is taken for each request, so that the first request after an outage gets the live
# one again.

Scenarios = Annotated[ScenariosRepository, Depends(_scenarios)]
TestRuns = Annotated[TestRunsRepository, Depends(_test_runs)]
ChaosEvents = Annotated[ChaosEventsRepository, Depends(_chaos_events)]
TestResults = Annotated[TestResultsRepository, Depends(_test_results)]
Services = Annotated[ServiceDiscoveryRepository, Depends(_services)]
Cache = Annotated[CacheRepository, Depends(_cache)]
AuditTrail = Annotated[AuditRepository, Depends(_audit_trail)]


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of this library, and of pydantic, with a status code and an outcome.

    ==========================  ====  =====================================================
    error                       code  notes
    ==========================  ====  =====================================================
    `NotFoundError`             404
    `DuplicateError`            409
    `ConflictError`             409
    `InvalidValueError`         422   with ``field`` and ``rule``
    pydantic's ValidationError  422   with ``errors``: a list of ``field`` and ``rule``
    `UnavailableError`          503   not applied; with ``Retry-After``
    `OverloadedError`           503   not applied; with ``Retry-After``
    `OutcomeUnknownError`       503   ``outcome`` is "unknown": read before repeating
    any other `AdapterError`    500   a person has to act
    ==========================  ====  =====================================================

    The body is a JSON object with ``error`` (a sentence without any secret or stored value) and
    ``outcome`` ("not_applied" or "unknown"). Rejected input is never repeated in it.

    Args:
        app: the application; call this once, before it starts.
    """
    app.add_exception_handler(AdapterError, _adapter_error)
    app.add_exception_handler(ValidationError, _validation_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


async def _adapter_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AdapterError)  # noqa: S101 - FastAPI dispatches by this class
    code = next(
        (code for kind, code in _STATUS_CODES.items() if isinstance(error, kind)),
        _UNAVAILABLE if error.transient else 500,
    )
    body: dict[str, JsonValue] = {"error": str(error), "outcome": error.outcome}
    if isinstance(error, InvalidValueError):
        body |= {"field": error.field, "rule": error.rule}
    may_retry = error.transient and error.outcome == "not_applied"
    return JSONResponse(body, code, {"Retry-After": _RETRY_AFTER} if may_retry else None)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError | ValidationError)  # noqa: S101 - see above
    errors = [
        {"field": ".".join(map(str, problem["loc"])), "rule": problem["msg"]}
        for problem in error.errors()
    ]
    text = "; ".join(f"{problem['field']}: {problem['rule']}" for problem in errors)
    return JSONResponse({"error": text, "outcome": "not_applied", "errors": errors}, _UNPROCESSABLE)


def health_router(
    requires: Collection[Backend] = _REQUIRED, *, prefix: str = "/health"
) -> APIRouter:
    """Return the routes ``/health/live`` and ``/health/ready``.

    * ``live`` answers 200 as long as the process answers requests at all. It asks no backend:
      restarting a service does not repair its database.
    * ``ready`` answers 200 when every backend in ``requires`` is connected, otherwise 503, with
      what `AdapterFactory.health_check` reports as the body. A backend that is not required never
      makes the service unready.

    Args:
        requires: the backends without which this service cannot do its work.
        prefix: the path in front of both.

    Raises:
        ValueError: ``requires`` names an unknown backend.
    """
    unknown = set(requires) - set(_BACKENDS)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"requires must name postgres or redis only, not {names}")
    router = APIRouter(prefix=prefix, tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/ready")
    async def ready(factory: Factory, response: Response) -> dict[str, JsonValue]:
        health = await factory.health_check()
        if not all(health[backend]["connected"] for backend in requires):
            response.status_code = _UNAVAILABLE
        return health

    return router
