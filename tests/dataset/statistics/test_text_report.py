"""The statistics as text."""

from pathlib import Path
from typing import Any

from corpora import prepare_corpus

from korlm.dataset.statistics.collect import collect
from korlm.dataset.statistics.text_report import describe

TRAIN = ["나 간다", "", "나 온다 또\x07", "나 간다", "나 간다", "너 온다"]
REPORT = """\
                                 train        valid
lines                                6            2
  blank                              1            0
  repeats of earlier ones  2 (40.00 %)   0 (0.00 %)
  that are in train                     1 (50.00 %)
    share of the morphs                     28.57 %
characters                          28           17
eojeol                              11            7
morphs                              11            7
  an eojeol                       1.00         1.00
  a line: mean                     2.2          3.5
          median                     2          3.5
          most                       3            5
types (different morphs)             5            6
  once only (hapaxes)      2 (40.00 %)  5 (83.33 %)
types / morphs                  0.4545       0.8571

longest lines  characters  morphs   document  line
  train                 7       3  train.txt     3
  train                 4       2  train.txt     1
  train                 4       2  train.txt     4
  train                 4       2  train.txt     5
  train                 4       2  train.txt     6
  valid                11       5  valid.txt     2
  valid                 4       2  valid.txt     1

most frequent lines of train:
        3 times  나 간다

rank, morph, count in train:
  1 나 4 · 2 간다 3 · 3 온다 2 · 4 너 1 · 5 또\\x07 1

unknown in valid     vocabulary  tokens     rate
  the most frequent           5       3  33.33 %
  vocab.min_freq=1            5       3  33.33 %
  vocab.min_freq=2            3       3  33.33 %
  vocab.min_freq=3            2       4  44.44 %
  vocab.min_freq=4            1       6  66.67 %
  vocab.min_freq=5            0       7  77.78 %
  this vocabulary             3       3  33.33 %
"""


def report(tmp_path: Path) -> dict[str, Any]:
    return collect(prepare_corpus(tmp_path, train=TRAIN, valid=["나 간다", "그 가 간다 또 온다"]))[
        0
    ]


def test_the_whole_report(tmp_path: Path) -> None:
    report_text = describe(report(tmp_path))
    text, zipf = report_text.split("\n\nZipf: ")
    assert text + "\n" == REPORT
    assert zipf.startswith("frequency ~ rank^-0.") and "Heaps" not in zipf


def test_lines_with_problems(tmp_path: Path) -> None:
    result = report(tmp_path)
    assert "problems" not in describe(result)
    result["splits"]["train"]["status"] |= {"cut: over budget": 1234, "lost: 2 characters": 1}
    result["splits"]["valid"]["num_dropped"] = 5
    part = describe(result).split("\n\n")[1]
    assert part.splitlines() == [
        "lines with problems (each is listed in report.tsv):",
        "  train: 1,234 lines cut: over budget",
        "  train: 1 lines lost: 2 characters",
        "  valid: 5 characters in no token",
    ]


def test_growth_of_a_larger_corpus(tmp_path: Path) -> None:
    lines = [f"말{n} 말{n // 2} 말{n // 3}" for n in range(100)]
    report_text = describe(collect(prepare_corpus(tmp_path, train=lines, valid=lines[:5]))[0])
    last = report_text.splitlines()[-1]
    assert last.startswith("Heaps: types ~ morphs^0.") and last.endswith("100 in 300")
    assert report_text.count("\x07") == 0


def test_nothing_that_steers_a_terminal_is_printed(tmp_path: Path) -> None:
    line = "\x1b[31m빨강\u2028 " + "긴" * 100
    report_text = describe(collect(prepare_corpus(tmp_path, train=[line, line], valid=["가"]))[0])
    assert "\x1b" not in report_text and "\u2028" not in report_text
    assert r"\x1b[31m빨강\u2028 " in report_text and "긴" * 60 not in report_text
