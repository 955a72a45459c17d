"""How trials ended, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from korlm.search.watching import PRUNED


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial of the smallest finite value."""
    whole = [t for t in trials if t.state is TrialState.COMPLETE and math.isfinite(t.value or 0.0)]
    return min(whole, key=lambda trial: trial.value or 0.0, default=None)


def last_reason(trials: Sequence[FrozenTrial]) -> str:
    """What the last trial that failed, failed with."""
    reasons = [text for trial in trials if (text := reason(trial))]
    return f"the last with: {reasons[-1]}" if reasons else "each being beyond all floats"


def reason(trial: FrozenTrial) -> str:
    """Why a trial has no figure; empty if it has one."""
    has_figure = trial.state is TrialState.COMPLETE
    return "" if has_figure else str(trial.user_attrs.get(PRUNED, trial.user_attrs.get("reason")))


def shown(value: float | None) -> str:
    """A figure of merit, whatever its sign."""
    assert value is not None
    return f"{abs(value):,.4f}" if math.isfinite(value) else "infinite"
