"""Where test-coordinator-py keeps its data: PostgreSQL, Redis, or memory when both are missing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from test_coordinator_data_adapter.config import AdapterConfig
    from test_coordinator_data_adapter.factory import AdapterFactory

    __version__: str

__all__ = ["AdapterConfig", "AdapterFactory", "__version__"]


def __getattr__(name: str) -> object:
    # The pytest plugin is imported by every test run of a machine that has this package:
    # importing the package must cost nothing until something of it is used.
    if name == "AdapterFactory":
        from test_coordinator_data_adapter.factory import AdapterFactory

        return AdapterFactory
    if name == "AdapterConfig":
        from test_coordinator_data_adapter.config import AdapterConfig

        return AdapterConfig
    if name == "__version__":
        from importlib.metadata import version

        return version("test-coordinator-data-adapter")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
