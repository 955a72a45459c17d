"""What is learnt: choices that the rules leave open, words that they do not know."""

from collections import Counter
from pathlib import Path

from analysed import samples

from korlm.detokenizers.kkma.alignment import align
from korlm.detokenizers.kkma.decision_list import Join, decide
from korlm.detokenizers.kkma.training import count_joins, learn, learn_decisions

Eojeol = tuple[tuple[str, ...], tuple[str, ...], str]


def eojeol(morphs: str, tags: str, written: str) -> Eojeol:
    return tuple(morphs.split("+")), tuple(tags.split("+")), written


def compose(entries: dict[str, str], morphs: str, tags: str = "") -> str:
    surface = left = left_tag = ""
    given = tags.split("+") if tags else [""] * len(morphs.split("+"))
    for right, tag in zip(morphs.split("+"), given, strict=True):
        surface = decide(entries, Join(surface, left, right, left_tag, tag)).on(surface)
        left, left_tag = right, tag
    return surface


def test_the_commoner_form_is_learnt() -> None:
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


def test_tags_tell_homographs_apart() -> None:
    counts = Counter({eojeol("묻+어", "VV+ECS", "물어"): 3, eojeol("묻+어", "VX+ECD", "묻어"): 2})
    entries = learn_decisions(count_joins(counts))
    assert compose(entries, "묻+어") == "물어"
    assert compose(entries, "묻+어", "VX+ECD") == "묻어"


def test_no_entries_where_the_rules_are_right() -> None:
    counts = Counter({eojeol("먹+어", "VV+ECS", "먹어"): 5, eojeol("흐르+어", "VV+ECS", "흘러"): 5})
    assert learn_decisions(count_joins(counts)) == {}


def test_each_entry_pays() -> None:
    """On what was learnt from, the list writes no fewer eojeols than the rules alone."""
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


def test_what_no_alignment_explains_is_left_out() -> None:
    strange = eojeol("갸+냐+댜+랴+먀", "A+A+A+A+A", "거너더러머")
    assert align(strange[0], strange[2]) is None
    assert count_joins(Counter({strange: 9})) == {}


def test_the_same_text_teaches_the_same(tmp_path: Path) -> None:
    read = samples(tmp_path / "a")
    first, second = learn(read), learn(read)
    assert first.decisions == second.decisions
    assert (first.blanks.weights == second.blanks.weights).all()
