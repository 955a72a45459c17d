"""The report lists every line that was not tokenized normally, as TSV for any reader."""

from pathlib import Path

import pyarrow as pa

from korlm.dataset.statistics.tokenization_report import (
    COLUMNS,
    report_rows,
    summary,
    write_report,
)

HEADER = "\t".join(COLUMNS)


def rows_of(lines: list[tuple[str, int, str, str, float, int]]) -> list[str]:
    doc_id, line, status, text, seconds, dropped = (list(c) for c in zip(*lines, strict=True))
    table = pa.table({"doc_id": doc_id, "line": line, "status": status, "text": text})
    return report_rows(table, pa.chunked_array([seconds]), pa.chunked_array([dropped]))


def write(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(rows) + "\n", encoding="ascii")


def test_only_lines_with_a_problem(tmp_path: Path) -> None:
    rows = rows_of(
        [
            ("a", 1, "ok", "가", 0.5, 0),
            ("a", 2, "fallback: too slow", "아" * 300, 10.00049, 0),
            ("a", 3, "empty", "", 0.0, 0),
            ("b#1", 7, "lost", "\ttab\\ \r\x00\x1b[0m\x85\u2028 끝", 0.25, 3),
            ("b#1", 8, "cut", "가", 0.0, 0),
            ("b#1", 9, "ok", "\x01가", 0.0, 1),
        ]
    )
    write(tmp_path / "train-00000.jsonl", rows)
    write_report(tmp_path, tmp_path / "report.tsv")
    lines = (tmp_path / "report.tsv").read_text(encoding="utf-8").splitlines()
    assert lines == [
        HEADER,
        "a\t2\tfallback: too slow\t10.0\t0\t" + "아" * 200,
        "b#1\t7\tlost\t0.25\t3\t\\ttab\\\\ \\r\\x00\\x1b[0m\\x85\\u2028 끝",
        "b#1\t8\tcut\t0.0\t0\t가",
        "b#1\t9\tok\t0.0\t1\t\\x01가",
    ]


def test_shards_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    for name in ("test-00000", "train-00010", "train-00002", "valid-00000"):
        write(tmp_path / f"{name}.jsonl", rows_of([(name, 1, "cut", "", 0.0, 0)]))
    write_report(tmp_path, tmp_path / "report.tsv")
    lines = (tmp_path / "report.tsv").read_text(encoding="utf-8").splitlines()
    order = ["train-00002", "train-00010", "valid-00000", "test-00000"]
    assert [line.split("\t")[0] for line in lines] == ["doc_id", *order]


def test_nothing_to_report(tmp_path: Path) -> None:
    assert rows_of([("a", 1, "ok", "", 0.0, 0)]) == []
    write_report(tmp_path, tmp_path / "report.tsv")
    assert (tmp_path / "report.tsv").read_text(encoding="utf-8") == HEADER + "\n"


def test_summary() -> None:
    assert summary({}) == ""
    assert summary({"cut: x": 2, "cut: y": 3, "lost": 1, "ok": 7}) == "7 ok, 5 cut, 1 lost"
