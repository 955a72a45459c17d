"""Kkma's morphs: the text they came from, files, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from analysed import LINES, analysis, samples
from test_rules import COPULA, FIRST

from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import learn
from korlm.utils.errors import PreparedError


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> KkmaDetokenizer:
    return learn(samples(tmp_path_factory.mktemp("text") / "prepared"))


@pytest.mark.parametrize(("text", "eojeols"), LINES)
def test_text_comes_back(learnt: KkmaDetokenizer, text: str, eojeols: str) -> None:
    tokens = analysis(eojeols)
    assert learnt.compose(tokens.morphs, tokens.tags, tokens.eojeol) == text
    assert learnt.compose(tokens.morphs, None, tokens.eojeol) == text
    assert learnt.compose(tokens.morphs) == text


@pytest.mark.parametrize(("example", "written"), [*FIRST.items(), *COPULA.items()])
def test_rules_alone_write_the_table(example: str, written: str) -> None:
    morphs = example.split("+")
    detokenizer = KkmaDetokenizer({}, untrained_spacing())
    assert detokenizer.compose(morphs, eojeol=[0] * len(morphs)) == written


def test_eojeols_of_one_line_do_not_touch(learnt: KkmaDetokenizer) -> None:
    assert learnt.compose(["돕", "아", "가", "았"], eojeol=[0, 0, 1, 1]) == "도와 갔"
    assert learnt.compose(["돕", "아", "가", "았"], eojeol=[0, 1, 1, 2]) == "돕 아가 았"


def test_a_saved_file_gives_the_same(learnt: KkmaDetokenizer, tmp_path: Path) -> None:
    path = tmp_path / "recomposition.npz"
    learnt.save(path)
    again = KkmaDetokenizer.load(path)
    assert again.decisions == learnt.decisions
    assert again.blanks.morphs == learnt.blanks.morphs
    for name in ("classes", "shapes", "weights"):
        assert (getattr(again.blanks, name) == getattr(learnt.blanks, name)).all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_damaged_file_is_one_clear_line(learnt: KkmaDetokenizer, tmp_path: Path) -> None:
    path = tmp_path / "recomposition.npz"
    learnt.save(path)
    whole = path.read_bytes()
    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:60] + whole[70:]):
        path.write_bytes(data)
        with pytest.raises(
            PreparedError, match=r"recomposition\.npz: missing or damaged"
        ) as raised:
            KkmaDetokenizer.load(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(PreparedError):
        KkmaDetokenizer.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", np.array([99])),
        ("decisions", np.frombuffer(b"[1]", np.uint8)),
        ("decisions", np.frombuffer(b'{"a": 1}', np.uint8)),
        ("morphs", np.frombuffer(b'["a"]', np.uint8)),
        ("weights", np.zeros(3, np.float16)),
        ("weights", np.full(4, np.nan, np.float16)),
        ("weights", np.array(["a"])),
        ("shapes", np.zeros(0, np.uint8)),
    ],
)
def test_foreign_arrays_are_refused(
    learnt: KkmaDetokenizer, tmp_path: Path, name: str, value: np.ndarray
) -> None:
    path = tmp_path / "recomposition.npz"
    learnt.save(path)
    with np.load(path) as arrays:
        changed = {**arrays, name: value}
    np.savez(path, **changed)
    with pytest.raises(PreparedError, match="missing or damaged"):
        KkmaDetokenizer.load(path)
