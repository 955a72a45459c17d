"""Linear mixtures of models: p(w) = sum_k weight_k p_k(w), the weights found by EM.

The likelihood is concave in the weights, so that EM (Jelinek and Mercer 1980) finds the best ones
from anywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from korlm.evaluation.token_scores import Nats

Weights = npt.NDArray[np.float64]

MAX_ITERATIONS = 500
TOLERANCE = 1e-8  # nats per token by which a round must still help


def mix(nats: Nats, weights: Weights) -> Nats:
    """-ln of the mixed probabilities: (K, N), (K,) -> (N,); infinite where no model has any."""
    best = nats.min(0)
    possible = np.isfinite(best)
    mixed: Nats = best.copy()
    mixed[possible] -= np.log(weights @ np.exp(best[possible] - nats[:, possible]))
    return mixed


def fit_weights(nats: Nats) -> Weights:
    """The weights of the mixture that costs least.

    Args:
        nats: (K, N), what each model takes for each token; infinite where it gives no chance.

    Returns:
        (K,), which sum to 1; the mixture costs no more than any of the models alone.
    """
    models = len(nats)
    nats = nats[:, np.isfinite(nats.min(0))]  # what no model holds for possible says nothing
    if not nats.size:
        return np.full(models, 1 / models)
    probs = np.exp(nats.min(0) - nats)
    weights = np.full(models, 1 / models)
    loss = np.inf
    for _ in range(MAX_ITERATIONS):
        mixed = weights @ probs
        before, loss = loss, -np.log(mixed).mean()
        if before - loss < TOLERANCE:
            break
        weights = weights * (probs / mixed).mean(1)
    alone = -np.log(np.maximum(probs, np.finfo(float).tiny)).mean(1)
    if alone.min() <= loss:  # a weight comes close to 0 but never gets there
        weights = np.eye(models)[alone.argmin()]
    return weights
