import pickle

import pytest

from test_coordinator_data_adapter import errors
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
)

EVERY = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_belongs_to_one_tree(kind: type[AdapterError]) -> None:
    assert issubclass(kind, AdapterError)


@pytest.mark.parametrize("kind", EVERY)
def test_the_module_docstring_draws_every_error(kind: type[AdapterError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [NotFoundError, InvalidValueError])
def test_callers_that_catch_value_error_still_catch_it(kind: type[AdapterError]) -> None:
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError.of("scenario", "s-1"),
        DuplicateError.of("test_result", "a", "b", constraint="test_results_pkey"),
        ConflictError.of("test_run", "r-1"),
        InvalidValueError("no", field="f", rule="r", entity="e", id="i", sqlstate="22021"),
    ],
)
def test_an_error_survives_pickling_with_all_it_says(error: AdapterError) -> None:
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - made one line above

    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


def test_only_a_lost_answer_leaves_the_outcome_unknown() -> None:
    unknown = {kind for kind in EVERY if kind.outcome == "unknown"}

    assert unknown == {OutcomeUnknownError}


def test_a_duplicate_names_the_first_hundred_ids() -> None:
    error = DuplicateError.of("test_result", *(f"r{number}" for number in range(150)))

    assert error.id == "r0"
    assert error.ids == tuple(f"r{number}" for number in range(100))


def test_a_duplicate_of_one_id_names_it() -> None:
    assert DuplicateError("there", entity="scenario", id="s").ids == ("s",)
