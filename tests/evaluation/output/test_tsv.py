"""The TSV files agree with the metrics."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from texts import random_nats, random_text, result_of

from korlm.evaluation.output.tsv import write_breakdowns


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_all_three(tmp_path: Path) -> None:
    text = dataclasses.replace(random_text(400), doc_ids=["가", "나\t나", '"다', "라", "마"])
    nats = random_nats(text)
    infinite = np.where(np.arange(len(nats)) == 0, np.inf, nats)
    results = {"valid": {"a": result_of(text, nats), "b": result_of(text, infinite)}}
    results["test"] = {"a": results["valid"]["a"]}
    write_breakdowns(tmp_path, results)
    assert {p.name for p in tmp_path.iterdir()} == {"documents.tsv", "bands.tsv", "positions.tsv"}
    documents = rows_of(tmp_path / "documents.tsv")
    assert len(documents) == 3 * 5
    assert [row["doc_id"] for row in documents[:5]] == ["가", r"나\t나", '"다', "라", "마"]
    assert documents[5]["perplexity"] == "inf"
    rows_of_a = [row for row in documents if (row["text"], row["row"]) == ("valid", "a")]
    metrics = results["valid"]["a"].metrics
    for key in ("num_tokens", "num_unk", "num_eojeol", "num_chars"):
        assert sum(int(row[key]) for row in rows_of_a) == metrics[key]
    nats_again = sum(float(row["loss"]) * int(row["num_tokens"]) for row in rows_of_a)
    assert nats_again == pytest.approx(nats.sum(), rel=1e-4)
    for row in rows_of_a:
        assert math.log(float(row["perplexity"])) == pytest.approx(float(row["loss"]), abs=1e-4)
    for key, name in (("bands", "band"), ("positions", "position")):
        rows = rows_of(tmp_path / f"{key}.tsv")
        groups = metrics[key]
        assert [row[name] for row in rows[: len(groups)]] == list(groups)
        for row in rows[: len(groups)]:
            assert int(row["num_tokens"]) == groups[row[name]]["num_tokens"]
            assert float(row["nats"]) == pytest.approx(groups[row[name]]["nats"], rel=1e-4)
