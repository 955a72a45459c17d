"""Files of TensorBoard's embedding projector: the embeddings of the most frequent tokens.

The files are next to the event files and contain no events, so that TensorBoard lists no other run.
V is the size of the vocabulary, E that of the embeddings.

    projector_config.pbtxt        names the other two
    embeddings/tensors.tsv        E numbers per row, a row per token
    embeddings/metadata.tsv       a header, then token and count in train
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
    folder: Path, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
) -> None:
    """Write the embeddings of the most frequent tokens; nothing if there are fewer than two.

    Args:
        folder: folder of the event files.
        weight: input embeddings of all tokens, subwords included, float32 (V, E).
        tokens: token of each id, V of them.
        counts: count in train of each id.
        max_tokens: maximum number of tokens to write; special tokens are omitted.
    """
    ids = [token_id for token_id, token in enumerate(tokens) if token not in SPECIALS]
    ids = sorted(ids, key=lambda token_id: -counts[token_id])[:max_tokens]
    if len(ids) < 2:  # the projector needs two points
        return
    rows = weight[ids].float().cpu().tolist()
    tensors = "".join("\t".join(f"{value:.5g}" for value in row) + "\n" for row in rows)
    labels = "".join(f"{escape_label(tokens[i])}\t{counts[i]}\n" for i in ids)
    (folder / "embeddings").mkdir(exist_ok=True)
    _write(folder / "embeddings" / "tensors.tsv", tensors)
    _write(folder / "embeddings" / "metadata.tsv", "token\tcount\n" + labels)
    _write(folder / "projector_config.pbtxt", CONFIG)


def escape_label(token: str) -> str:
    r"""Return a token as a table cell: characters that break rows or are invisible are escaped.

    >>> [escape_label(token) for token in ("나", "a\tb", "", " ", "가\u2028")]
    ['나', 'a\\tb', '""', '" "', '가\\u2028']
    """
    if not token.strip():
        return json.dumps(token)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in token)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
