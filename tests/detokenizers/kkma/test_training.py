"""Training: ambiguous operations, and words that the rules do not cover."""

from collections import Counter
from pathlib import Path

from analysed import samples

from korlm.detokenizers.kkma.alignment import align
from korlm.detokenizers.kkma.decision_list import Join, choose_operation
from korlm.detokenizers.kkma.training import count_joins, learn_decisions, train_detokenizer

Eojeol = tuple[tuple[str, ...], tuple[str, ...], str]


def eojeol(morphs: str, tags: str, written: str) -> Eojeol:
    return tuple(morphs.split("+")), tuple(tags.split("+")), written


def compose(entries: dict[str, str], morphs: str, tags: str = "") -> str:
    surface = left = left_tag = ""
    given = tags.split("+") if tags else [""] * len(morphs.split("+"))
    for right, tag in zip(morphs.split("+"), given, strict=True):
        surface = choose_operation(entries, Join(surface, left, right, left_tag, tag)).apply(
            surface
        )
        left, left_tag = right, tag
    return surface


def test_the_more_frequent_form_is_learned() -> None:
    seen = count_joins(
        Counter(
            {
                eojeol("되+었+다", "VV+EPT+EFN", "되었다"): 3,
                eojeol("되+었+다", "VV+EPT+EFN", "됐다"): 2,
                eojeol("따르+아", "VV+ECS", "따라"): 1,
                eojeol("모르+아", "VV+ECS", "몰라"): 1,
            }
        )
    )
    entries = learn_decisions(seen)
    assert compose(entries, "되+었+다") == "되었다"
    assert compose({}, "되+었+다") == "됐다"
    assert (compose(entries, "따르+아"), compose(entries, "모르+아")) == ("따라", "몰라")


def test_tags_distinguish_homographs() -> None:
    counts = Counter({eojeol("묻+어", "VV+ECS", "물어"): 3, eojeol("묻+어", "VX+ECD", "묻어"): 2})
    entries = learn_decisions(count_joins(counts))
    assert compose(entries, "묻+어") == "물어"
    assert compose(entries, "묻+어", "VX+ECD") == "묻어"


def test_no_entries_if_the_rules_are_right() -> None:
    counts = Counter({eojeol("먹+어", "VV+ECS", "먹어"): 5, eojeol("흐르+어", "VV+ECS", "흘러"): 5})
    assert learn_decisions(count_joins(counts)) == {}


def test_all_training_examples_are_reproduced() -> None:
    words = [
        "따르+아=따라",
        "오르+아=올라",
        "이르+어=이르러",
        "나+가=내가",
        "누나+가=누나가",
        "나+는=난",
    ]
    counts = Counter()
    for number, word in enumerate(words):
        morphs, written = word.split("=")
        counts[eojeol(morphs, "A+B", written)] = number + 1
    entries = learn_decisions(count_joins(counts))
    assert [compose(entries, w.split("=")[0]) for w in words] == [w.split("=")[1] for w in words]


def test_unaligned_eojeols_are_skipped() -> None:
    strange = eojeol("갸+냐+댜+랴+먀", "A+A+A+A+A", "거너더러머")
    assert align(strange[0], strange[2]) is None
    assert count_joins(Counter({strange: 9})) == {}


def test_training_is_deterministic(tmp_path: Path) -> None:
    read = samples(tmp_path / "a")
    first, second = train_detokenizer(read), train_detokenizer(read)
    assert first.decisions == second.decisions
    assert (first.spacing.weights == second.spacing.weights).all()
