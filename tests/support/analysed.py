"""A small tokenized text in Kkma's format: eojeols of morphs and tags."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.dataset.storage.shards import SCHEMA
from korlm.detokenizers.kkma.training_data import AlignedTokens, read_aligned_tokens
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import to_record_batch

# Each line: its text, and the morphs/tags of its eojeols.
LINES = [
    ("나는 학교에 갔다.", "나/NP+는/JX 학교/NNG+에/JKM 가/VV+었/EPT+다/EFN+./SF"),
    ("너는 책을 읽었다.", "너/NP+는/JX 책/NNG+을/JKO 읽/VV+었/EPT+다/EFN+./SF"),
    ("우리는 공부하였다.", "우리/NP+는/JX 공부/NNG+하/XSV+였/EPT+다/EFN+./SF"),
    ("친구가 도와 줬다.", "친구/NNG+가/JKS 돕/VV+아/ECS 주/VXV+었/EPT+다/EFN+./SF"),
    ("내가 노래를 부른다.", "나/NP+가/JKS 노래/NNG+를/JKO 부르/VV+ㄴ다/EFN+./SF"),
    ("그것은 영화다.", "그것/NP+은/JX 영화/NNG+이/VCP+다/EFN+./SF"),
    ("집이 작게 보였다.", "집/NNG+이/JKS 작/VA+게/ECD 보이/VV+었/EPT+다/EFN+./SF"),
    ("하늘을 나는 새", "하늘/NNG+을/JKO 날/VV+는/ETD 새/NNG"),
    ("물이 흘러 간다.", "물/NNG+이/JKS 흐르/VV+어/ECS 가/VXV+ㄴ다/EFN+./SF"),
]


def analysis(eojeols: str) -> Analysis:
    """Return the analysis of a line of ``LINES``."""
    pairs = [[m.rsplit("/", 1) for m in e.split("+")] for e in eojeols.split(" ")]
    return Analysis(
        [morph for e in pairs for morph, _ in e],
        [tag for e in pairs for _, tag in e],
        [number for number, e in enumerate(pairs) for _ in e],
    )


def write_prepared(folder: Path, copies: int = 20) -> Path:
    """Write copies of ``LINES`` as the tokens of a prepared corpus; return its folder."""
    (folder / "tokens").mkdir(parents=True)
    lines = LINES * copies
    batch = to_record_batch([analysis(eojeols) for _, eojeols in lines])
    columns = {name: batch.column(name) for name in ("morphs", "tags", "eojeol", "status")}
    columns["text"] = pa.array([text for text, _ in lines])
    columns["doc_id"] = pa.array(["d"] * len(lines))
    columns["line"] = pa.array(range(1, len(lines) + 1), pa.int64())
    table = pa.table(columns).select(SCHEMA.names).cast(SCHEMA)
    counts = f'{{"num_lines": {len(lines)}, "num_morphs": {len(batch.column("morphs").flatten())}}}'
    table = table.replace_schema_metadata({b"korlm": counts.encode()})
    pq.write_table(table, folder / "tokens" / "train-00000.parquet")
    return folder


def samples(folder: Path, limit: int = 10**6) -> AlignedTokens:
    """Return the tokens of ``write_prepared``, as read for training."""
    return read_aligned_tokens(write_prepared(folder), limit)
