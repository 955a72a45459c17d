"""Decision list: the finest context decides, inapplicable operations are skipped."""

import pytest

from korlm.detokenizers.kkma.decision_list import (
    NUM_LEVELS,
    Join,
    choose_operation,
    context_key,
    find_operation,
)

JOIN = Join("이르", "이르", "어", "VV", "ECS")


def test_contexts_of_all_levels_differ() -> None:
    keys = [context_key(level, JOIN) for level in range(NUM_LEVELS)]
    assert len(set(keys)) == NUM_LEVELS


@pytest.mark.parametrize("level", range(NUM_LEVELS))
def test_an_entry_of_any_level_decides(level: int) -> None:
    assert choose_operation({}, JOIN).apply("이르") == "일러"
    assert choose_operation({context_key(level, JOIN): "러"}, JOIN).apply("이르") == "이르러"


@pytest.mark.parametrize("level", range(1, NUM_LEVELS))
def test_the_finer_context_wins(level: int) -> None:
    entries = {context_key(level - 1, JOIN): "plain", context_key(level, JOIN): "러"}
    assert choose_operation(entries, JOIN).apply("이르") == "이르러"


def test_levels_with_tags_are_ignored_without_tags() -> None:
    entries = {context_key(level, JOIN): "러" for level in range(7, NUM_LEVELS)}
    assert (
        choose_operation(entries, JOIN._replace(left_tag="", right_tag="")).apply("이르") == "일러"
    )


def test_inapplicable_operations_are_skipped() -> None:
    finest, coarser = context_key(6, JOIN), context_key(3, JOIN)
    assert choose_operation({finest: "=나>내", coarser: "러"}, JOIN).apply("이르") == "이르러"
    assert choose_operation({finest: "no such rule", coarser: "러"}, JOIN).apply("이르") == "이르러"


def test_literal_operations() -> None:
    operation = find_operation("=나>내가", Join("“나", "나", "가"))
    assert operation is not None
    assert operation.apply("“나") == "“내가"
    assert find_operation("=나>내가", Join("너", "너", "가")) is None
