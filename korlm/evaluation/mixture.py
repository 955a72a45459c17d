"""Mix models linearly, p(w) = sum_k weight_k p_k(w), and fit the weights by EM.

The log-likelihood is concave in the weights, so EM (Jelinek and Mercer 1980) converges to the
global optimum from any start.

Axes: K models, N tokens.
"""

from __future__ import annotations

import numpy as np

from korlm.evaluation.token_scores import Floats

MAX_ITERATIONS = 500
TOLERANCE = 1e-8  # stop when an iteration gains less than this, in nats per token


def mix(nats: Floats, weights: Floats) -> Floats:
    """Return -ln of the mixed probabilities: (K, N), (K,) -> (N,).

    It is infinite where all models of positive weight assign probability 0.
    """
    nats, weights = nats[weights > 0], weights[weights > 0]
    best = nats.min(0)
    possible = np.isfinite(best)
    mixed: Floats = best.copy()
    mixed[possible] -= np.log(weights @ np.exp(best[possible] - nats[:, possible]))
    return mixed


def fit_weights(nats: Floats) -> Floats:
    """Return the mixture weights (K,) with the lowest loss.

    The weights sum to 1, and the loss is never above that of the best single model.

    ``nats`` (K, N) are -ln p of each token under each model; infinite for probability 0.
    """
    num_models = len(nats)
    nats = nats[:, np.isfinite(nats.min(0))]  # tokens impossible under all models carry no signal
    if not nats.size:
        return np.full(num_models, 1 / num_models)
    probs = np.exp(nats.min(0) - nats)
    weights = np.full(num_models, 1 / num_models)
    loss = np.inf
    for _ in range(MAX_ITERATIONS):
        mixed = weights @ probs
        previous, loss = loss, -np.log(mixed).mean()
        if previous - loss < TOLERANCE:
            break
        weights = weights * (probs / mixed).mean(1)
    single = -np.log(np.maximum(probs, np.finfo(float).tiny)).mean(1)
    if single.min() <= loss:  # EM approaches a weight of 0 but never reaches it
        weights = np.eye(num_models)[single.argmin()]
    return weights
