from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from test_coordinator_data_adapter import AdapterConfig
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    ConflictError,
    DataIntegrityError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.fastapi import (
    AuditTrail,
    Cache,
    ChaosEvents,
    Factory,
    Scenarios,
    Services,
    TestResults,
    TestRuns,
    add_error_handlers,
    health_router,
    lifespan,
)
from test_coordinator_data_adapter.models import TestRun

SECRET = "s3cret-value"
RUN = {
    "run_id": "run-1",
    "scenario_id": "kill-risk-monitor",
    "status": "pending",
    "configuration_snapshot": {},
}


def in_memory() -> AdapterConfig:
    return AdapterConfig(in_memory=True)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


def service() -> FastAPI:
    app = FastAPI(lifespan=lifespan(in_memory()))
    add_error_handlers(app)
    app.include_router(health_router())

    @app.post("/runs", status_code=201)
    async def create(run: TestRun, runs: TestRuns) -> TestRun:
        return await runs.create(run)

    @app.post("/built/{run_id}")
    async def build(run_id: str, runs: TestRuns) -> TestRun:
        return await runs.create(TestRun.model_validate(RUN | {"run_id": run_id * 300}))

    return app


async def test_given_the_lifespan_when_a_request_arrives_then_it_uses_the_applications_factory():
    async with client_of(service()) as client:
        created = await client.post("/runs", json=RUN)
        again = await client.post("/runs", json=RUN)

    assert (created.status_code, created.json()["run_id"]) == (201, "run-1")
    assert (again.status_code, again.json()["outcome"]) == (409, "not_applied")


async def test_given_a_dependency_for_each_port_then_each_hands_out_its_repository():
    app = FastAPI(lifespan=lifespan(in_memory()))

    @app.get("/")
    async def answers(
        *,
        scenarios: Scenarios,
        runs: TestRuns,
        events: ChaosEvents,
        results: TestResults,
        services: Services,
        cache: Cache,
        audit: AuditTrail,
    ) -> list[str]:
        return [
            str(await scenarios.count(scenarios.query_kind())),
            str(await runs.count(runs.query_kind())),
            str(await events.count(events.query_kind())),
            str(await results.count(results.query_kind())),
            str(await services.get_service_count()),
            str(await cache.exists("nothing")),
            str(len(await audit.history("test_run", "nothing"))),
        ]

    async with client_of(app) as client:
        answer = await client.get("/")

    assert answer.json() == ["0", "0", "0", "0", "0", "False", "0"]


async def test_given_no_lifespan_when_a_factory_is_needed_then_the_error_states_what_to_write():
    app = FastAPI()

    @app.get("/")
    async def use(factory: Factory) -> None:
        raise AssertionError(factory)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        with pytest.raises(RuntimeError, match=r"FastAPI\(lifespan=lifespan\(\)\)"):
            await client.get("/")


async def test_given_the_application_ended_then_its_factory_is_closed():
    app = service()

    async with client_of(app) as client:
        await client.get("/health/live")
        (factory,) = app.state._state.values()
        assert factory._is_initialized

    assert not factory._is_initialized
    assert app.state._state == {}


@pytest.mark.parametrize(
    ("error", "code", "outcome", "retry_after"),
    [
        (NotFoundError.of("test_run", "r"), 404, "not_applied", None),
        (DuplicateError.of("test_run", "r"), 409, "not_applied", None),
        (ConflictError.of("test_run", "r"), 409, "not_applied", None),
        (InvalidValueError("f is wrong", field="f", rule="is wrong"), 422, "not_applied", None),
        (UnavailableError("down"), 503, "not_applied", "1"),
        (OverloadedError("busy"), 503, "not_applied", "1"),
        (OutcomeUnknownError("lost"), 503, "unknown", None),
        (ConfigurationError("wrong"), 500, "not_applied", None),
        (DataIntegrityError("unreadable"), 500, "not_applied", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_given_an_error_of_the_library_then_the_response_states_code_outcome_and_retry(
    error, code, outcome, retry_after
):
    app = service()

    @app.get("/fails")
    async def fails() -> None:
        raise error

    async with client_of(app) as client:
        answer = await client.get("/fails")

    assert (answer.status_code, answer.json()["outcome"]) == (code, outcome)
    assert answer.json()["error"] == str(error)
    assert answer.headers.get("Retry-After") == retry_after


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("post", "/runs", RUN | {"status": SECRET}, "body.status"),
        ("post", f"/built/{SECRET}", None, "run_id"),
    ],
    ids=["of the request", "of a model built in the route"],
)
async def test_given_pydantic_rejects_a_value_then_the_response_names_the_field_and_no_value(
    method, path, body, field
):
    async with client_of(service()) as client:
        answer = await client.request(method, path, json=body)

    assert answer.status_code == 422
    assert answer.json()["outcome"] == "not_applied"
    assert [problem["field"] for problem in answer.json()["errors"]] == [field]
    assert SECRET not in answer.text


async def test_given_a_required_backend_is_missing_then_ready_answers_503_and_live_200():
    async with client_of(service()) as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")

    assert live.status_code == 200
    assert (ready.status_code, ready.json()["postgres"]["connected"]) == (503, False)


async def test_given_no_backend_is_required_then_ready_answers_200():
    app = FastAPI(lifespan=lifespan(in_memory()))
    app.include_router(health_router(requires=()))

    async with client_of(app) as client:
        ready = await client.get("/health/ready")

    assert ready.status_code == 200


def test_given_an_unknown_backend_is_required_then_the_router_refuses_it_by_name():
    with pytest.raises(ValueError, match="not mysql"):
        health_router(requires=("mysql",))


async def test_given_a_host_then_the_service_is_registered_while_the_application_runs():
    app = FastAPI(lifespan=lifespan(in_memory(), host="risk.example", http_port=8080))

    @app.get("/services")
    async def services(services: Services) -> list[str]:
        return [
            f"{one.service_id} {one.host}:{one.http_port}"
            for one in await services.list_all_services()
        ]

    async with client_of(app) as client:
        answer = await client.get("/services")

    assert answer.json() == ["test-coordinator risk.example:8080"]
