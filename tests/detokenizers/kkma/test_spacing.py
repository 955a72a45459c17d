"""Where blanks stand: probabilities, learnt from text, the same in one go and one by one."""

import numpy as np
import pytest
from analysed import samples

from korlm.detokenizers.kkma.spacing import BITS, SpacingModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpacingModel:
    return SpacingModel.train(samples(tmp_path_factory.mktemp("text") / "prepared"))


def blank(model: SpacingModel, left: str, right: str) -> float:
    return float(model.between(model.encode([left]), model.encode([right]))[0])


@pytest.mark.parametrize(
    ("left", "right", "stands"),
    [("는", "학교", True), ("학교", "에", False), ("다", ".", False), ("을", "읽", True)],
)
def test_what_was_seen(model: SpacingModel, left: str, right: str, stands: bool) -> None:
    assert (blank(model, left, right) > 0.9) == stands
    assert 0 <= blank(model, left, right) <= 1


def test_pairs_that_were_not_seen_fall_back(model: SpacingModel) -> None:
    assert blank(model, "은", "책") > 0.5
    assert blank(model, "새", "를") < 0.5
    assert blank(model, "듣도보도못한", "를") < 0.5


def test_many_at_once_as_one_by_one(model: SpacingModel) -> None:
    rights = ["에", "학교", "없던말", "3", "KBS", "ㅋㅋ"]
    many = model.between(model.encode(["는"]), model.encode(rights))
    assert many.tolist() == [blank(model, "는", right) for right in rights]


def test_weights_are_small_and_finite(model: SpacingModel) -> None:
    assert model.weights.dtype == np.float16
    assert model.weights.shape == (1 << BITS,)
    assert np.isfinite(model.weights).all()
