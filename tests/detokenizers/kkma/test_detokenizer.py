"""Detokenizer of Kkma's morphs: round trip, files, invalid files."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from analysed import LINES, analysis, samples
from test_rules import COPULA

from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.detokenizers.kkma.training import train_detokenizer
from korlm.utils.errors import PreparedError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> KkmaDetokenizer:
    return train_detokenizer(samples(tmp_path_factory.mktemp("text") / "prepared"))


@pytest.mark.parametrize(("text", "eojeols"), LINES)
def test_detokenized_text_equals_the_original(
    trained: KkmaDetokenizer, text: str, eojeols: str
) -> None:
    tokens = analysis(eojeols)
    assert trained.detokenize(tokens.morphs, tokens.tags, tokens.eojeol) == text
    assert trained.detokenize(tokens.morphs, None, tokens.eojeol) == text
    assert trained.detokenize(tokens.morphs) == text


@pytest.mark.parametrize(("example", "written"), COPULA.items())
def test_rules_without_training(example: str, written: str) -> None:
    morphs = example.split("+")
    detokenizer = KkmaDetokenizer({}, untrained_spacing())
    assert detokenizer.detokenize(morphs, eojeol=[0] * len(morphs)) == written


def test_no_rule_applies_across_eojeols(trained: KkmaDetokenizer) -> None:
    assert trained.detokenize(["돕", "아", "가", "았"], eojeol=[0, 0, 1, 1]) == "도와 갔"
    assert trained.detokenize(["돕", "아", "가", "았"], eojeol=[0, 1, 1, 2]) == "돕 아가 았"


def test_save_and_load(trained: KkmaDetokenizer, tmp_path: Path) -> None:
    path = tmp_path / "recomposition.npz"
    trained.save(path)
    loaded = KkmaDetokenizer.load(path)
    assert loaded.decisions == trained.decisions
    assert loaded.spacing.morphs == trained.spacing.morphs
    for name in ("classes", "shapes", "weights"):
        assert (getattr(loaded.spacing, name) == getattr(trained.spacing, name)).all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_damaged_files(trained: KkmaDetokenizer, tmp_path: Path) -> None:
    path = tmp_path / "recomposition.npz"
    trained.save(path)
    whole = path.read_bytes()
    for data in (b"", b"no zip", whole[: len(whole) // 2], whole[:60] + whole[70:]):
        path.write_bytes(data)
        with pytest.raises(
            PreparedError, match=r"recomposition\.npz: damaged or missing"
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
def test_invalid_arrays(
    trained: KkmaDetokenizer, tmp_path: Path, name: str, value: np.ndarray
) -> None:
    path = tmp_path / "recomposition.npz"
    trained.save(path)
    with np.load(path) as arrays:
        changed = {**arrays, name: value}
    np.savez(path, **changed)
    with pytest.raises(PreparedError, match="damaged or missing"):
        KkmaDetokenizer.load(path)


def test_a_header_that_is_not_python(trained: KkmaDetokenizer, tmp_path: Path) -> None:
    path = tmp_path / "recomposition.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,), \n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x00"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("format.npy", data)
    with pytest.raises(PreparedError, match="damaged or missing"):
        KkmaDetokenizer.load(path)
