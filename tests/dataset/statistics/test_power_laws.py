"""Power laws are recovered from exact data, and rates of real vocabularies are plausible."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from corpora import prepare_corpus, random_lines

from korlm.config import VocabConfig
from korlm.dataset.statistics.power_laws import Coverage, fit_heaps, fit_power_law, fit_zipf


@pytest.mark.parametrize("slope", [-1.3, -0.5, 0.6])
def test_an_exact_law_is_recovered(slope: float) -> None:
    x = np.arange(1, 200)
    law = fit_power_law(x, 40 * x**slope, 1 / x)
    assert law is not None
    assert (law.slope, law.scale, law.r_squared) == pytest.approx((slope, 40, 1))


def test_fits_as_numpy_fits() -> None:
    frequencies = np.sort(np.random.default_rng(1).zipf(1.7, 500))[::-1]
    ranks = np.arange(1, 501)
    slope, height = np.polyfit(np.log(ranks), np.log(frequencies), 1, w=ranks**-0.5)
    law = fit_zipf(frequencies)
    assert law is not None
    assert (law.slope, law.scale) == pytest.approx((slope, np.exp(height)))
    assert 0.5 < law.r_squared < 1
    law = fit_heaps([(100, 50), (200, 80), (500, 130)])
    slope, height = np.polyfit(np.log([100, 200, 500]), np.log([50, 80, 130]), 1)
    assert law is not None
    assert (law.slope, law.scale) == pytest.approx((slope, np.exp(height)))


def test_too_few_points() -> None:
    assert fit_zipf([]) is None and fit_zipf([5]) is None
    assert fit_heaps([(7, 2)]) is None
    flat = fit_zipf([3, 3, 3])
    assert flat is not None
    assert (flat.slope, flat.r_squared) == pytest.approx((0, 1))


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_unknown_as_prepared_corpora_count_them(tmp_path: Path, lower: bool, numbers: bool) -> None:
    splits = {"train": random_lines(1, 150), "valid": random_lines(2, 60)}
    counts = {
        split: Counter(token for line in lines for token in line.split())
        for split, lines in splits.items()
    }
    same = {"lowercase": lower, "normalize_numbers": numbers}
    coverage = Coverage(counts["train"], counts["valid"], VocabConfig(min_freq=9, **same))
    seen = set()
    for config in (
        *(VocabConfig(min_freq=n, **same) for n in (1, 2, 3, 5)),
        *(VocabConfig(min_freq=1, max_size=n, **same) for n in (1, 7, 30)),
    ):
        prepared = prepare_corpus(tmp_path, config, **splits)
        size = len(prepared.vocab) - 4
        num_unk = prepared.stats["valid"].num_unk
        assert coverage.num_unknown(size) == num_unk
        seen.add(num_unk)
        if config.max_size is None:
            assert coverage.size_of(config.min_freq) == size
    assert len(seen) == 7
    assert coverage.num_unknown(0) == counts["valid"].total()
    assert coverage.num_unknown(10**9) == min(seen)
    assert coverage.size_of(10**9) == 0
    row = coverage.row(7, 1000)
    assert row == {"size": 7, "num_unk": coverage.num_unknown(7), "rate": row["num_unk"] / 1000}
