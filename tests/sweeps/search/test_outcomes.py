"""Outcomes of trials, one line each."""

from __future__ import annotations

import math

from optuna.trial import FrozenTrial, TrialState, create_trial

from korlm.sweeps.search.study import best_of, format_objective, last_reason, reason
from korlm.utils.errors import TrainingError, reason_of


def ended(state: TrialState, value: float | None = None, **attrs: str) -> FrozenTrial:
    return create_trial(state=state, value=value, user_attrs=attrs)


def test_the_best_is_finite() -> None:
    whole = [ended(TrialState.COMPLETE, value) for value in (math.inf, -3.0, 0.0)]
    assert best_of(whole) is whole[1]
    assert best_of([whole[0], ended(TrialState.FAIL)]) is None


def test_reasons() -> None:
    trials = [
        ended(TrialState.COMPLETE, 1.0, reason="of another time"),
        ended(TrialState.FAIL, reason="a disk"),
        ended(TrialState.PRUNED, pruned="pruned at step 3"),
    ]
    assert [reason(trial) for trial in trials] == ["", "a disk", "pruned at step 3"]
    assert last_reason(trials) == "the last with: pruned at step 3"
    assert last_reason(trials[:1]) == "no objective is finite"
    assert reason_of(ValueError("one\nline")) == "ValueError: one line"
    assert reason_of(TrainingError("the loss is nan")) == "the loss is nan"


def test_objectives_are_printed_without_sign() -> None:
    """Speeds are minimized as negative numbers."""
    assert format_objective(-1234.5) == "1,234.5000"
    assert format_objective(math.inf) == "infinite"
