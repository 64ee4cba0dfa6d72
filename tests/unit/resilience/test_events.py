import io
import logging
import subprocess
import sys
import textwrap

import pytest
import structlog

from test_coordinator_data_adapter.resilience.events import EventLog, contained_logging


def test_where_structlog_is_configured_events_go_there_with_the_bound_context() -> None:
    with (
        structlog.testing.capture_logs() as told,
        structlog.contextvars.bound_contextvars(run_id="r-1"),
    ):
        EventLog().info("factory_initialized", instance="x")

    assert told == [
        {"event": "factory_initialized", "instance": "x", "run_id": "r-1", "log_level": "info"}
    ]


def test_what_was_bound_under_a_name_of_structlogs_own_loses_no_event() -> None:
    with (
        structlog.testing.capture_logs() as told,
        structlog.contextvars.bound_contextvars(event="chaos-1", level=3),
    ):
        EventLog().error("backend_misconfigured")

    assert told == [
        {
            "event": "backend_misconfigured",
            "log_level": "error",
            "bound_event": "chaos-1",
            "bound_level": 3,
        }
    ]


def test_a_sink_that_fails_loses_the_event_and_nothing_else() -> None:
    closed = io.StringIO()
    closed.close()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(closed))

    EventLog().error("backend_lost")

    with pytest.raises(ValueError, match="closed file"):
        structlog.get_logger().info("told")


def test_elsewhere_events_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), structlog.contextvars.bound_contextvars(run_id="r-1"):
        EventLog().warning("backend_lost", backend="postgres")

    (record,) = caplog.records
    assert record.name == "test_coordinator_data_adapter"
    assert record.getMessage() == "backend_lost run_id='r-1' backend='postgres'"


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("ERROR", ["error"]),
        ("CRITICAL", []),
    ],
)
def test_the_level_filters_this_librarys_events(level: str, heard: list[str]) -> None:
    log = EventLog(level)

    with structlog.testing.capture_logs() as told:
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")

    assert [entry["log_level"] for entry in told] == heard
    assert log.wants(logging.ERROR) is (level != "CRITICAL")


def test_where_nothing_is_configured_only_what_is_wrong_is_shown() -> None:
    script = textwrap.dedent("""
        from test_coordinator_data_adapter.resilience.events import EventLog, contained_logging
        EventLog().info("opened", fact=1)
        EventLog().warning("degraded", fact=1)
    """)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert (done.stdout, done.stderr) == (b"", b"degraded fact=1\n")


class _Raising(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        raise RuntimeError(record.name)


def test_a_handler_that_raises_loses_the_event_and_nothing_else() -> None:
    handler = _Raising()
    logging.getLogger().addHandler(handler)
    try:
        EventLog().error("backend_lost")
        with pytest.raises(RuntimeError):
            logging.getLogger("test_coordinator_data_adapter").error("the handler does raise")
    finally:
        logging.getLogger().removeHandler(handler)


def test_a_bound_value_that_cannot_be_shown_loses_the_event_and_nothing_else() -> None:
    class Unprintable:
        def __repr__(self) -> str:
            raise ValueError

    with structlog.contextvars.bound_contextvars(user=Unprintable()):
        EventLog().error("backend_lost")


def test_contained_records_reach_the_handlers_and_what_these_raise_reaches_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library, handler = logging.getLogger("somelibrary"), _Raising()
    library.addHandler(handler)

    with caplog.at_level(logging.INFO), contained_logging("somelibrary"):
        with contained_logging("somelibrary"):
            logging.getLogger("somelibrary.part").info("raises in its own handler")
        assert library.handlers != [handler], "still contained: another call is inside"

    assert (library.handlers, library.propagate) == ([handler], True)
    library.removeHandler(handler)
    with caplog.at_level(logging.INFO), contained_logging("somelibrary"):
        logging.getLogger("somelibrary.part").info("arrives")
    assert caplog.messages == ["arrives"]
