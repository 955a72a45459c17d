"""A decision list: the finest context decides, and what cannot be done is passed over."""

import pytest

from korlm.detokenizers.kkma.decision_list import LEVELS, Join, context, decide, operation_of

JOIN = Join("이르", "이르", "어", "VV", "ECS")


def test_contexts_of_all_levels_differ() -> None:
    keys = [context(level, JOIN) for level in range(LEVELS)]
    assert len(set(keys)) == LEVELS


@pytest.mark.parametrize("level", range(LEVELS))
def test_an_entry_of_any_level_decides(level: int) -> None:
    assert decide({}, JOIN).on("이르") == "일러"
    assert decide({context(level, JOIN): "러"}, JOIN).on("이르") == "이르러"


@pytest.mark.parametrize("level", range(1, LEVELS))
def test_the_finer_context_wins(level: int) -> None:
    entries = {context(level - 1, JOIN): "plain", context(level, JOIN): "러"}
    assert decide(entries, JOIN).on("이르") == "이르러"


def test_without_tags_levels_with_tags_are_silent() -> None:
    entries = {context(level, JOIN): "러" for level in range(7, LEVELS)}
    assert decide(entries, JOIN._replace(left_tag="", right_tag="")).on("이르") == "일러"


def test_what_cannot_be_done_here_is_passed_over() -> None:
    finest, coarser = context(6, JOIN), context(3, JOIN)
    assert decide({finest: "=나>내", coarser: "러"}, JOIN).on("이르") == "이르러"
    assert decide({finest: "no such rule", coarser: "러"}, JOIN).on("이르") == "이르러"


def test_literal_operations_rewrite_the_end() -> None:
    operation = operation_of("=나>내가", Join("“나", "나", "가"))
    assert operation is not None
    assert operation.on("“나") == "“내가"
    assert operation_of("=나>내가", Join("너", "너", "가")) is None
