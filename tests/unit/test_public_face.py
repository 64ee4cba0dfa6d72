from __future__ import annotations

import importlib
import inspect
import re
import types
from typing import TypeVar

import pytest

FACE = {
    "": "AdapterConfig AdapterFactory __version__",
    ".config": "AdapterConfig",
    ".factory": "AdapterFactory",
    ".models": (
        "Scenario ScenarioType ScenarioStatus TestRun RunStatus ChaosEvent EventType EventStatus"
        " TestResult ResultStatus AssertionType ServiceInfo"
    ),
    ".interfaces": (
        "ScenariosRepository TestRunsRepository ChaosEventsRepository TestResultsRepository"
        " ServiceDiscoveryRepository CacheRepository ServiceInfo"
        " Page ScenarioQuery TestRunQuery ChaosEventQuery TestResultQuery"
    ),
    ".errors": (
        "AdapterError NotFoundError DuplicateError ConflictError InvalidValueError"
        " UnavailableError OutcomeUnknownError OverloadedError ConfigurationError"
        " DataIntegrityError"
    ),
    ".adapters.stub": (
        "StubScenariosRepository StubTestRunsRepository StubChaosEventsRepository"
        " StubTestResultsRepository StubServiceDiscoveryRepository StubCacheRepository"
    ),
    ".adapters.postgres": (
        "PostgresScenariosRepository PostgresTestRunsRepository PostgresChaosEventsRepository"
        " PostgresTestResultsRepository"
    ),
    ".adapters.redis": "RedisServiceDiscoveryRepository RedisCacheRepository",
}
MODULES = sorted(FACE)
NAMES = [(module, name) for module in MODULES for name in FACE[module].split()]


def public_module(suffix):
    return importlib.import_module(f"test_coordinator_data_adapter{suffix}")


def functions_of(exported):
    """What a user can call on it, with the name it is called by."""
    if inspect.isfunction(exported):
        yield exported.__name__, exported
    if inspect.isclass(exported):
        for name, member in vars(exported).items():
            plain = getattr(member, "__func__", getattr(member, "fget", member))
            if inspect.isfunction(plain) and (name == "__init__" or not name.startswith("_")):
                yield f"{exported.__name__}.{name}", plain


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_promised_name_is_there_and_exported(module, name):
    room = public_module(module)

    assert hasattr(room, name)
    assert name in room.__all__


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_exports_is_its_face(module):
    room = public_module(module)

    shown = {
        name
        for name, value in vars(room).items()
        if getattr(value, "__module__", "").startswith(room.__name__)
        and not name.startswith("_")
        and not isinstance(value, types.ModuleType | TypeVar)
    }

    assert shown <= set(room.__all__)
    assert all(hasattr(room, name) for name in room.__all__)


@pytest.mark.parametrize(("module", "name"), [pair for pair in NAMES if pair[1][:4] == "Test"])
def test_a_name_that_begins_with_test_is_no_test(module, name):
    assert getattr(public_module(module), name).__test__ is False


@pytest.mark.parametrize("module", MODULES)
def test_no_public_signature_says_any(module):
    room = public_module(module)

    vague = [
        f"{name}: {annotation}"
        for exported in (getattr(room, name) for name in room.__all__)
        for name, function in functions_of(exported)
        for annotation in function.__annotations__.values()
        if re.search(r"\bAny\b", str(annotation))
    ]

    assert vague == []
