"""Every prefix is one node, and every model scores the tree as it scores single texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_cases import COUNTED, TRAINED, VOCAB_SIZE, make_model

from korlm.rescoring import prefix_tree
from korlm.rescoring.prefix_tree import PrefixTree, tree_nats

CASES = TRAINED + COUNTED


def random_texts(seed: int, count: int = 30) -> list[list[int]]:
    """Return texts with common prefixes, each with <eos> (3); one occurs twice."""
    random = np.random.default_rng(seed)
    trunk = random.integers(4, VOCAB_SIZE, 8).tolist()
    texts = []
    for _ in range(count):
        cut = int(random.integers(0, 9))
        rest = random.integers(4, VOCAB_SIZE, int(random.integers(0, 5))).tolist()
        texts.append([*trunk[:cut], *rest, 3])
    return [*texts, texts[0]]


def tree_of(texts: list[list[int]]) -> tuple[PrefixTree, np.ndarray]:
    ids = np.concatenate([np.array(text) for text in texts])
    return PrefixTree.build(ids, np.array([len(text) for text in texts])), ids


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
def test_a_node_is_one_prefix(seed: int) -> None:
    texts = random_texts(seed)
    tree, _ = tree_of(texts)
    prefixes = [tuple(text[: at + 1]) for text in texts for at in range(len(text))]
    assert sum(len(level.ids) for level in tree.levels) == len(set(prefixes))
    pairs = set(zip(prefixes, tree.node_of.tolist(), strict=True))
    assert len(pairs) == len(set(prefixes)) == len({node for _, node in pairs})


@pytest.mark.parametrize(("kind", "option"), CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize("rows", [1, 4096])
def test_equals_single_texts(
    kind: str, option: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "SOFTMAX_ROWS", rows)
    model = make_model(kind, option)
    texts = random_texts(1)
    tree, _ = tree_of(texts)
    nats = tree_nats(model, tree, 3)[tree.node_of]
    alone = []
    for text in texts:
        inputs, targets = torch.tensor([[3, *text[:-1]]]), torch.tensor([text])
        with torch.no_grad():
            alone.append(model.token_nll(inputs, targets)[0][0].double().numpy())
    assert np.abs(nats - np.concatenate(alone)).max() < 1e-5
    assert nats.min() > 0


def test_the_start_id_matters() -> None:
    model = make_model("lstm", "plain")
    tree, _ = tree_of([[5, 3]])
    assert tree_nats(model, tree, 3)[0] != tree_nats(model, tree, 2)[0]
