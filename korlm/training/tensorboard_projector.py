"""Files of TensorBoard's embedding projector: the most frequent tokens as points in space.

They lie beside the event files of a run and hold no events, so that no second run appears:

    projector_config.pbtxt        names the other two
    embeddings/tensors.tsv        a row of E numbers for each token
    embeddings/metadata.tsv       token and its count in train, a head above them
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from korlm.dataset.vocab import SPECIALS
from korlm.utils.io.atomic_files import atomic_write

CONFIG = """\
embeddings {
  tensor_name: "embeddings"
  tensor_path: "embeddings/tensors.tsv"
  metadata_path: "embeddings/metadata.tsv"
}
"""


def write_projector(
    folder: Path, matrix: Tensor, tokens: Sequence[str], counts: Sequence[int], number: int
) -> None:
    """Writes the embeddings of the most frequent tokens; those that were there are replaced.

    Args:
        folder: of the event files.
        matrix: float32 (V, E).
        tokens: of all ids.
        counts: of the same in train.
        number: of tokens at most; specials such as <eos> are left out.
    """
    ids = [token_id for token_id, token in enumerate(tokens) if token not in SPECIALS]
    ids = sorted(ids, key=lambda token_id: -counts[token_id])[:number]
    if len(ids) < 2:  # one point is no space
        return
    rows = matrix[ids].float().cpu().tolist()
    points = "".join("\t".join(f"{value:.5g}" for value in row) + "\n" for row in rows)
    names = "".join(f"{written(tokens[i])}\t{counts[i]}\n" for i in ids)
    (folder / "embeddings").mkdir(exist_ok=True)
    _write(folder / "embeddings" / "tensors.tsv", points)
    _write(folder / "embeddings" / "metadata.tsv", "token\tcount\n" + names)
    _write(folder / "projector_config.pbtxt", CONFIG)


def written(token: str) -> str:
    r"""A token as a cell of a table: what would break the row, or not be seen, is escaped.

    >>> [written(token) for token in ("나", "a\tb", "", " ", "가\u2028")]
    ['나', 'a\\tb', '""', '" "', '가\\u2028']
    """
    if not token.strip():
        return json.dumps(token)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in token)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
