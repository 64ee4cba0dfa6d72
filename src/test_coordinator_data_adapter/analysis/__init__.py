"""Statistics of stored runs: pure functions over what the repositories return."""

from __future__ import annotations

from test_coordinator_data_adapter.analysis.comparison import (
    Comparison,
    RatesComparison,
    TimesComparison,
    Verdict,
    VerdictWord,
    compare_rates,
    compare_times,
    holm,
    judge,
)
from test_coordinator_data_adapter.analysis.faults import (
    VacuousReason,
    active_faults,
    active_until,
    has_no_visible_effect,
    is_active,
    is_never_recovered,
    vacuous_reasons,
)
from test_coordinator_data_adapter.analysis.percentiles import (
    percentile,
    percentile_interval,
    smallest_n_with_interval,
)
from test_coordinator_data_adapter.analysis.rank_tests import (
    hodges_lehmann,
    mann_whitney,
    smallest_p_value,
)
from test_coordinator_data_adapter.analysis.rates import (
    Interval,
    Rate,
    fisher_exact,
    newcombe_interval,
    pass_rate,
    wilson_interval,
)
from test_coordinator_data_adapter.analysis.steadiness import (
    Steadiness,
    SteadinessWord,
    steadiness,
)

__all__ = [
    "Comparison",
    "Interval",
    "Rate",
    "RatesComparison",
    "Steadiness",
    "SteadinessWord",
    "TimesComparison",
    "VacuousReason",
    "Verdict",
    "VerdictWord",
    "active_faults",
    "active_until",
    "compare_rates",
    "compare_times",
    "fisher_exact",
    "has_no_visible_effect",
    "hodges_lehmann",
    "holm",
    "is_active",
    "is_never_recovered",
    "judge",
    "mann_whitney",
    "newcombe_interval",
    "pass_rate",
    "percentile",
    "percentile_interval",
    "smallest_n_with_interval",
    "smallest_p_value",
    "steadiness",
    "vacuous_reasons",
    "wilson_interval",
]
