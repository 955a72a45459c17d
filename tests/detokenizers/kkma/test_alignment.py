"""Alignment of morphs with written eojeols."""

import pytest
from test_rules import ALSO, COPULA, COPULA_ALSO, FIRST

from korlm.detokenizers.kkma.alignment import align
from korlm.detokenizers.kkma.decision_list import LITERAL


@pytest.mark.parametrize(
    ("example", "written"),
    [*FIRST.items(), *ALSO.items(), *COPULA.items(), *COPULA_ALSO.items()],
)
def test_rules_explain_the_table(example: str, written: str) -> None:
    steps = align(example.split("+"), written)
    assert steps is not None
    assert steps[-1].after == written
    assert not any(step.name.startswith(LITERAL) for step in steps)
    assert [step.surface for step in steps[1:]] == [step.after for step in steps[:-1]]
    assert [step.right for step in steps] == example.split("+")


@pytest.mark.parametrize(
    ("morphs", "written", "names"),
    [
        (["으로"], "으루", ["=>으루"]),
        (["우리", "나라"], "울나라", ["plain", "=우리>울나라"]),
        (["읽", "다", ".", "끝"], "읽당.끝", ["plain", "=>당", "plain", "plain"]),
    ],
)
def test_one_join_may_be_literal(morphs: list[str], written: str, names: list[str]) -> None:
    steps = align(morphs, written)
    assert steps is not None
    assert [step.name for step in steps] == names


def test_no_alignment_with_two_literal_operations() -> None:
    assert align(["갸", "냐", "댜", "랴", "먀"], "거너더러머") is None
