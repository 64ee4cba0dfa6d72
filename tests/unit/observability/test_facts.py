import pytest

from test_coordinator_data_adapter.observability import Place, Trip, TripEnded


@pytest.mark.parametrize(
    ("backend", "command", "told"),
    [
        ("postgres", "SELECT * FROM test_runs WHERE run_id = $1", "SELECT"),
        ("postgres", "\n  select 1", "SELECT"),
        ("postgres", "WITH a AS (SELECT 1) SELECT * FROM a", "SELECT"),
        ("postgres", "WITH a AS (SELECT set_config($1, $2, true)) UPDATE test_runs", "UPDATE"),
        ("postgres", "WITH gone AS (DELETE FROM test_runs RETURNING 1) SELECT count(*)", "DELETE"),
        ("postgres", "COPY test_results FROM STDIN", "COPY"),
        ("postgres", "BEGIN; SET LOCAL statement_timeout = 0", "BEGIN"),
        ("postgres", "whatever", "OTHER"),
        ("redis", "MGET", "MGET"),
        ("redis", "UNLINK SCAN", "PIPELINE"),
        ("redis", "k1", "OTHER"),
    ],
)
def test_a_command_is_told_in_a_bounded_number_of_words(backend, command, told):
    trip = Trip(command=command, entity=None, waited=0.0, took=0.0, rows=0)

    ended = TripEnded(trip, Place(backend), None)

    assert ended.command == told
