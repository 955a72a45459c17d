"""Texts as a tree: nothing is lost, nothing is read twice, all kinds of models say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_cases import CELLS, NGRAMS, OPTIONS, VOCAB_SIZE, WINDOW_OPTIONS, make_model

from korlm.rescoring import prefix_tree
from korlm.rescoring.prefix_tree import PrefixTree, tree_nats

CPU = torch.device("cpu")
CASES = [(cell, option) for cell in CELLS for option in OPTIONS]
CASES += [("window", option) for option in WINDOW_OPTIONS]
CASES += [("ngram", option) for option in NGRAMS] + [("pairs", "plain")]


def random_texts(seed: int, count: int = 30) -> list[list[int]]:
    """Texts that begin alike, <eos> (3) behind each; some are there twice."""
    dice = np.random.default_rng(seed)
    trunk = dice.integers(4, VOCAB_SIZE, 8).tolist()
    texts = []
    for _ in range(count):
        cut = int(dice.integers(0, 9))
        rest = dice.integers(4, VOCAB_SIZE, int(dice.integers(0, 5))).tolist()
        texts.append([*trunk[:cut], *rest, 3])
    return [*texts, texts[0]]


def tree_of(texts: list[list[int]]) -> tuple[PrefixTree, np.ndarray]:
    ids = np.concatenate([np.array(text) for text in texts])
    return PrefixTree.of(ids, np.array([len(text) for text in texts])), ids


def test_by_hand() -> None:
    tree, _ = tree_of([[5, 6, 3], [5, 7, 3], [3], [5, 6, 3]])
    assert [level.parents.tolist() for level in tree.levels] == [[0, 0], [1, 1], [0, 1]]
    assert [level.ids.tolist() for level in tree.levels] == [[3, 5], [6, 7], [3, 3]]
    assert tree.node_of.tolist() == [1, 2, 4, 1, 3, 5, 0, 1, 2, 4]
    inner, parent = tree.levels[2].inner()
    assert (inner.tolist(), parent.tolist()) == ([0, 1], [0, 1])
    inner, parent = tree.levels[1].inner()
    assert (inner.tolist(), parent.tolist()) == ([1], [0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_a_node_is_one_beginning(seed: int) -> None:
    texts = random_texts(seed)
    tree, _ = tree_of(texts)
    beginnings = [tuple(text[: at + 1]) for text in texts for at in range(len(text))]
    assert sum(len(level.ids) for level in tree.levels) == len(set(beginnings))
    pairs = set(zip(beginnings, tree.node_of.tolist(), strict=True))
    assert len(pairs) == len(set(beginnings)) == len({node for _, node in pairs})


@pytest.mark.parametrize(("kind", "option"), CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize("rows", [1, 4096])
def test_as_each_text_by_itself(
    kind: str, option: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "ROWS", rows)
    model = make_model(kind, option)
    texts = random_texts(1)
    tree, _ = tree_of(texts)
    found = tree_nats(model, tree, 3, CPU)[tree.node_of]
    alone = []
    for text in texts:
        inputs, targets = torch.tensor([[3, *text[:-1]]]), torch.tensor([text])
        with torch.no_grad():
            alone.append(model.token_nll(inputs, targets)[0][0].double().numpy())
    assert np.abs(found - np.concatenate(alone)).max() < 1e-5
    assert found.min() > 0


def test_the_start_is_read() -> None:
    model = make_model("lstm", "plain")
    tree, _ = tree_of([[5, 3]])
    assert tree_nats(model, tree, 3, CPU)[0] != tree_nats(model, tree, 2, CPU)[0]
