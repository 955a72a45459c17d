"""Selection of the eojeols of a search that are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from korlm.dataset.vocab import SPECIALS
from korlm.detokenizers.base import Detokenizer, SyllableDetokenizer
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.generation.candidates import choose
from korlm.generation.eojeol_search import Node, SearchResult
from korlm.generation.lexicon import Lexicon, StablePrefix
from korlm.text.hangul import keys_of

WORDS = ["누구", "집", "서울", "사업", "먹", "하", "영화", "법률", "이것"]
MORPHEMES = [*"을를은는이가과와고었다어의.!,", "으로", "로", "이랑", "랑", "ㄴ다", "…"]
TOKENS = [*SPECIALS, *WORDS, *MORPHEMES]
SPACED = {("이것", "법률"): 0.9}


class Spaced(KkmaDetokenizer):
    """Kkma's rules with given probabilities of spaces."""

    def __init__(self) -> None:
        super().__init__({}, untrained_spacing())

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([SPACED.get((left, right), 0.1) for right in rights], np.float32)

    def _vocab_space_probs(self, left: str) -> npt.NDArray[np.float32]:
        return Detokenizer._vocab_space_probs(self, left)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon(TOKENS, Spaced(), [0, 1, 2])


def node_of(lexicon: Lexicon, tokens: str, next_tokens: str = "", end: float = 0.5) -> Node:
    """Return a node of tokens, and the tokens that may follow it or its parent."""
    node = Node((), "", 1.0, StablePrefix("", None), None)
    for number, token in enumerate(tokens.split("+")):
        left = lexicon.tokens[node.ids[-1]] if node.ids else ""
        surface = lexicon.detokenizer.join(node.surface, left, token)
        node.child_probs = probs_of(next_tokens if number else "")
        ids = (*node.ids, TOKENS.index(token))
        node = Node(ids, surface, 1.0, StablePrefix("", None), node, end_prob=end)
    node.child_probs = probs_of(next_tokens)
    return node


def probs_of(tokens: str) -> npt.NDArray[np.float32]:
    probs = np.zeros(len(TOKENS), np.float32)
    for number, token in enumerate(filter(None, tokens.split())):
        probs[TOKENS.index(token)] = 0.6 / (number + 1)
    return probs


def shown(lexicon: Lexicon, *nodes: Node, typed: str = "") -> list[tuple[str, float]]:
    eojeols = {node.surface: (0.1 * (len(nodes) - n), node) for n, node in enumerate(nodes)}
    return [
        (surface, pytest.approx(prob))
        for surface, prob in choose(SearchResult(eojeols, 1.0), lexicon, keys_of(typed))
    ]


def test_punctuation_is_merged(lexicon: Lexicon) -> None:
    tokens = ["영화", "영화+.", "법률", "영화+!+!", "법률+,", "."]
    nodes = [node_of(lexicon, morphemes) for morphemes in tokens]
    assert shown(lexicon, *nodes) == [("영화", 1.4), ("법률", 0.6), (".", 0.1)]
    nodes = [node_of(lexicon, morphemes) for morphemes in ("영화+.", "영화")]
    assert shown(lexicon, *nodes) == [("영화.", 0.3)]
    assert shown(lexicon, node_of(lexicon, "."), node_of(lexicon, "…")) == [(".", 0.2), ("…", 0.1)]


@pytest.mark.parametrize(
    ("tokens", "next_tokens", "is_shown"),
    [
        ("누구+을", "", False),
        ("누구+이", "", False),
        ("누구+은+.", "", False),
        ("누구+과", "", False),
        ("누구+으로", "", False),
        ("영화+이랑", "", False),
        ("누구+를", "", True),
        ("누구+가", "", True),
        ("누구+로", "", True),
        ("영화+랑", "", True),
        ("집+를", "", False),
        ("집+와", "", False),
        ("집+로", "", False),
        ("서울+로", "", True),
        ("서울+으로", "", True),  # 서울로
        ("집+을", "", True),
        ("집+으로", "", True),
        ("먹+는", "", True),  # an ending
        ("집+가", "이 가", False),
        ("사업+가", "가 이", True),  # a suffix
    ],
)
def test_particles_have_the_form_of_their_noun(
    lexicon: Lexicon, tokens: str, next_tokens: str, is_shown: bool
) -> None:
    node = node_of(lexicon, tokens, next_tokens, end=0.9)
    assert bool(shown(lexicon, node)) == is_shown
    assert bool(shown(lexicon, node, typed=node.surface[:1])) == is_shown


def test_stems_need_an_ending(lexicon: Lexicon) -> None:
    assert not shown(lexicon, node_of(lexicon, "먹", "었 어 고 는", end=0.02))
    assert not shown(lexicon, node_of(lexicon, "먹+었", "다 어", end=0.02))
    assert not shown(lexicon, node_of(lexicon, "하", "ㄴ다 어", end=0.1))
    assert shown(lexicon, node_of(lexicon, "누구", "의 가 이", end=0.02))
    assert shown(lexicon, node_of(lexicon, "먹+고", "", end=0.9))
    assert shown(lexicon, node_of(lexicon, "먹+었+다", "", end=0.9))


def test_two_eojeols_are_joined_only_by_the_user(lexicon: Lexicon) -> None:
    node = node_of(lexicon, "이것+법률+의", "", end=0.9)
    assert not shown(lexicon, node) and not shown(lexicon, node, typed="이것")
    assert shown(lexicon, node, typed="이것ㅂ") == [("이것법률의", 0.1)]


def test_characters_are_not_judged() -> None:
    tokens = [*SPECIALS, *"마을▁가의다"]
    lexicon = Lexicon(tokens, SyllableDetokenizer(), [0, 1, 2])
    node = Node((), "", 1.0, StablePrefix("", None), None)
    for token in "마을":
        ids = (*node.ids, tokens.index(token))
        node.child_probs = np.zeros(len(tokens), np.float32)
        node = Node(ids, node.surface + token, 1.0, StablePrefix("", None), node, end_prob=0.3)
    node.child_probs = np.full(len(tokens), 0.05, np.float32)
    assert shown(lexicon, node) == [("마을", 0.1)]
