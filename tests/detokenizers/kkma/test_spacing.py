"""Spacing model: probabilities after training, the same in a batch and one by one."""

import numpy as np
import pytest
from analysed import samples

from korlm.detokenizers.kkma.spacing import HASH_BITS, FollowingMorphs, SpacingModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpacingModel:
    return SpacingModel.train(samples(tmp_path_factory.mktemp("text") / "prepared"))


def space(model: SpacingModel, left: str, right: str) -> float:
    return float(model.predict(model.encode([left]), model.encode([right]))[0])


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("는", "학교", True), ("학교", "에", False), ("다", ".", False), ("을", "읽", True)],
)
def test_seen_pairs(model: SpacingModel, left: str, right: str, expected: bool) -> None:
    assert (space(model, left, right) > 0.9) == expected
    assert 0 <= space(model, left, right) <= 1


def test_unseen_pairs_back_off(model: SpacingModel) -> None:
    assert space(model, "은", "책") > 0.5
    assert space(model, "새", "를") < 0.5
    assert space(model, "듣도보도못한", "를") < 0.5


def test_a_batch_equals_single_pairs(model: SpacingModel) -> None:
    rights = ["에", "학교", "없던말", "3", "KBS", "ㅋㅋ"]
    many = model.predict(model.encode(["는"]), model.encode(rights))
    assert many.tolist() == [space(model, "는", right) for right in rights]


def test_weights_are_small_and_finite(model: SpacingModel) -> None:
    assert model.weights.dtype == np.float16
    assert model.weights.shape == (1 << HASH_BITS,)
    assert np.isfinite(model.weights).all()


def test_a_fixed_list_equals_pairs(model: SpacingModel) -> None:
    rights = ["에", "학교", "없던말", "3", "KBS", "ㅋㅋ", "에"]
    following = FollowingMorphs(model, rights)
    for left in ("는", "학교", "없던말", "."):
        expected = model.predict(model.encode([left]), model.encode(rights))
        assert following.predict(left).tolist() == expected.tolist()
