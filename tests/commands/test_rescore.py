"""The command: rescored lists, tuned weights, error rates and error messages."""

import json
import re
from pathlib import Path

import pytest
import torch
from command_server import CommandServer
from conftest import Command
from tiny_runs import finish, korean_lines, make_settings, prepare_tiny

from korlm import load
from korlm.config import NgramConfig
from korlm.rescoring import Hypothesis, LMScorer, NBest, ScoreWeights, rescore


class Runs:
    """Two runs of one vocabulary and one of another."""

    def __init__(self, folder: Path) -> None:
        self.lstm, self.ngram, self.foreign = (folder / n for n in ("lstm", "ngram", "foreign"))
        for name, min_freq in (("text", 2), ("other", 15)):
            (folder / name).mkdir()
            prepared = prepare_tiny(folder / name, min_freq)
            if name == "text":
                finish(make_settings(prepared, {"epochs": 12}), prepared, self.lstm)
                ngram = make_settings(prepared, model=NgramConfig(name="ngram", order=3))
                finish(ngram, prepared, self.ngram)
            else:
                finish(make_settings(prepared, {"epochs": 1}), prepared, self.foreign)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    torch.set_num_threads(1)
    return Runs(tmp_path_factory.mktemp("rescored"))


@pytest.fixture
def dev(tmp_path: Path) -> tuple[Path, Path]:
    """Write lists whose second hypothesis is correct, and their references."""
    lines = korean_lines(12, 77)
    rows = [
        f"u{at} -2.0 {line[::-1]}\nu{at} -2.5 {line}\nu{at} -9 {line} {line}\n"
        for at, line in enumerate(lines)
    ]
    references = [f"u{at} {line}\n" for at, line in enumerate(lines)]
    paths = tmp_path / "dev.txt", tmp_path / "dev.ref"
    for path, content in zip(paths, (rows, references), strict=True):
        path.write_text("".join(content), encoding="utf-8")
    return paths


def read(path: Path) -> list[tuple[str, float, str]]:
    rows = (line.split(maxsplit=2) for line in path.read_text("utf-8").splitlines())
    return [(utt, float(score), text) for utt, score, text in rows]


def rates(err: str, label: str) -> list[float]:
    (line,) = re.findall(rf"^{label} .*$", err, re.MULTILINE)
    return [float(cell) for cell in re.findall(r"[\d.]+", line)]


def test_context_of_a_recording(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    lines = korean_lines(8, 5)
    rows = [f"r{at % 2}-{at:02}-{at + 1:02} -2.0 {line}\n" for at, line in enumerate(lines)]
    path = tmp_path / "n.txt"
    path.write_text("".join(rows), encoding="utf-8")
    options = [f"run={runs.lstm}", f"nbest={path}", "lm_weight=1"]
    ended = korlm("rescore", *options, "context=recording", "output=c.txt")
    assert ended.code == 0, ended.err
    assert korlm("rescore", *options, "output=u.txt").code == 0
    context, alone = read(Path("c.txt")), read(Path("u.txt"))
    assert [row[::2] for row in context] == [row[::2] for row in alone]
    equal = [a[1] == pytest.approx(b[1], abs=1e-4) for a, b in zip(context, alone, strict=True)]
    assert equal[:2] == [True, True] and not all(equal)
    lists = {utt: [(text, -2.0)] for utt, _, text in alone}
    found = load(runs.lstm).rescore(lists, lm_weight=1, context="recording")
    totals = [hyps[0].total for hyps in found.values()]
    assert totals == pytest.approx([total for _, total, _ in context], abs=1e-4)


def test_tuned_weights_help_and_can_be_reused(
    korlm: Command, runs: Runs, dev: tuple[Path, Path]
) -> None:
    lists, references = dev
    ended = korlm(
        "rescore", f"run={runs.lstm}", f"nbest={lists}", f"tune={references}", "lm_weight=0"
    )
    assert ended.code == 0, ended.err
    assert rates(ended.err, "after") == rates(ended.err, "oracle") == [0, 0, 0]
    assert min(rates(ended.err, "before")) > 30
    assert "36 hypotheses of 12 utterances; 12 utterances have another best one" in ended.err
    overrides = re.findall(r"^(lm_weight=\S+) (length_bonus=\S+)", ended.err, re.MULTILINE)[0]
    again = korlm(
        "rescore", f"run={runs.lstm}", f"nbest={lists}", *overrides, f"reference={references}"
    )
    assert again.out == ended.out
    assert rates(again.err, "after") == [0, 0, 0]
    assert not [path for path in Path().iterdir() if path.name not in ("dev.txt", "dev.ref")]


def test_lists_are_sorted_permutations(korlm: Command, runs: Runs, dev: tuple[Path, Path]) -> None:
    lists, _ = dev
    ended = korlm("rescore", f"run={runs.lstm}", f"nbest={lists}", "output=new.txt", "batch_size=7")
    assert (ended.code, ended.out) == (0, "")
    before, after = read(lists), read(Path("new.txt"))
    assert [utt for utt, _, _ in before] == [utt for utt, _, _ in after]
    assert sorted((u, t) for u, _, t in before) == sorted((u, t) for u, _, t in after)
    for at in range(0, len(after), 3):
        totals = [score for _, score, _ in after[at : at + 3]]
        assert totals == sorted(totals, reverse=True)
    whole = korlm("rescore", f"run={runs.lstm}", f"nbest={lists}")
    assert whole.out == Path("new.txt").read_text("utf-8")


def test_the_combined_score_by_hand(korlm: Command, runs: Runs, dev: tuple[Path, Path]) -> None:
    lists, _ = dev
    options = ["lm_weight=0.3", "length_bonus=1.5", "length_unit=char", "normalize=token"]
    assert korlm("rescore", f"run={runs.lstm}", f"nbest={lists}", *options, "output=o").code == 0
    given = {(utt, text): score for utt, score, text in read(lists)}
    run = load(runs.lstm)
    with LMScorer([run]) as scorer:
        for utt, total, text in read(Path("o")):
            actual = scorer.score([text])
            log_prob = actual.log_probs[0, 0] / actual.num_tokens[0]
            expected = given[utt, text] + 0.3 * log_prob + 1.5 * len(text)
            assert total == pytest.approx(expected, abs=1e-4)


def test_in_python(runs: Runs) -> None:
    lists = [NBest("a", [Hypothesis("다간 에집 는나", -1.0), Hypothesis("나는 집에 간다.", -1.5)])]
    with LMScorer([load(runs.lstm)]) as scorer:
        ((nbest, hyps),) = rescore(lists, scorer, ScoreWeights(lm_weight=1.0))
        ((_, as_given),) = rescore(lists, scorer, ScoreWeights(lm_weight=0.0))
    assert nbest.utt == "a"
    assert [hyp.hypothesis.text for hyp in hyps] == ["나는 집에 간다.", "다간 에집 는나"]
    assert hyps[0].total == pytest.approx(-1.5 + hyps[0].log_prob)
    assert [hyp.total for hyp in as_given] == [-1.0, -1.5]


@pytest.mark.parametrize("mixing", ["auto", "linear", "log_linear"])
def test_mixed(korlm: Command, runs: Runs, dev: tuple[Path, Path], mixing: str) -> None:
    lists, references = dev
    command = ("rescore", f"run={runs.lstm}", f"ngram={runs.ngram}", f"nbest={lists}")
    ended = korlm(*command, f"tune={references}", f"mixing={mixing}", "lm_weight=0")
    assert ended.code == 0, ended.err
    assert rates(ended.err, "after")[0] <= rates(ended.err, "before")[0]
    weights = re.findall(r"mixture_weights=\[(.*?)\]", ended.err)[0].split(",")
    assert sum(map(float, weights)) == pytest.approx(1)
    overrides = re.findall(
        r"^(lm_weight=\S+) (length_bonus=\S+) '(mixture_weights=\S+)'", ended.err, re.MULTILINE
    )[0]
    again = korlm(*command, *overrides, f"mixing={mixing}")
    assert again.out == ended.out


def test_other_vocabularies(korlm: Command, runs: Runs, dev: tuple[Path, Path]) -> None:
    lists, references = dev
    command = ("rescore", f"run={runs.lstm}", f"mix=[{runs.foreign}]", f"nbest={lists}")
    ended = korlm(*command, f"tune={references}", "lm_weight=0")
    assert ended.code == 0, ended.err
    assert rates(ended.err, "after")[0] <= rates(ended.err, "before")[0]
    assert "the vocabularies of" in korlm(*command, "mixing=linear").error


def test_formats(korlm: Command, runs: Runs, dev: tuple[Path, Path]) -> None:
    lists, _ = dev
    plain = korlm("rescore", f"run={runs.lstm}", f"nbest={lists}", "one_best=true").out
    assert plain.splitlines()[0].startswith("u0 ")
    rows = read(lists)
    records = [{"utt": utt, "text": text, "score": score} for utt, score, text in rows]
    Path("n.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    for rank in (1, 2, 3):
        folder = Path(f"logdir/output.1/{rank}best_recog")
        folder.mkdir(parents=True)
        mine = rows[rank - 1 :: 3]
        (folder / "text").write_text("".join(f"{utt} {text}\n" for utt, _, text in mine), "utf-8")
        scores = "".join(f"{utt} tensor({score})\n" for utt, score, _ in mine)
        (folder / "score").write_text(scores)
    numbers = [1 + at % 3 for at in range(len(rows))]
    names = [f"{utt}-{number}" for (utt, _, _), number in zip(rows, numbers, strict=True)]
    pairs = list(zip(names, rows, strict=True))
    Path("words").write_text("".join(f"{name} {row[2]}\n" for name, row in pairs), "utf-8")
    Path("ac_cost").write_text("".join(f"{name} {-4 * row[1]}\n" for name, row in pairs))
    kaldi = ("nbest=words", "scores=[ac_cost]", "score_scales=[0.25]", "score_kind=cost")
    for source in (("nbest=n.jsonl",), ("nbest=logdir",), kaldi):
        ended = korlm("rescore", f"run={runs.lstm}", *source, "one_best=true")
        assert (ended.code, ended.out) == (0, plain), ended.err
    assert korlm("rescore", f"run={runs.lstm}", "nbest=logdir", "output=new").code == 0
    again = korlm("rescore", f"run={runs.lstm}", "nbest=new", "lm_weight=0", "one_best=true")
    assert again.out == plain
    costs = korlm("rescore", f"run={runs.lstm}", *kaldi).out.splitlines()
    assert costs[0].split()[0] in ("u0-1", "u0-2", "u0-3")
    assert float(costs[0].split()[1]) < float(costs[1].split()[1])


def test_mistakes(korlm: Command, runs: Runs, dev: tuple[Path, Path], tmp_path: Path) -> None:
    lists, references = dev
    run, nbest = f"run={runs.lstm}", f"nbest={lists}"

    def error_of(*overrides: str) -> str:
        error = korlm("rescore", *overrides).error
        assert sorted(path.name for path in tmp_path.iterdir() if path.name != "bad") == [
            "dev.ref",
            "dev.txt",
        ]
        return error

    assert "run must be given: run=VALUE" in error_of(nbest)
    assert "nbest must be given: nbest=VALUE" in error_of(run)
    assert "nowhere: no such directory" in error_of("run=nowhere", nbest)
    assert "nowhere: no such file" in error_of(run, "nbest=nowhere")
    assert "mixture_weights" in error_of(run, nbest, "mixture_weights=[0.5,0.5]")
    assert "sum to 1" in error_of(run, nbest, "mixture_weights=[0.7]")
    assert "score_scales" in error_of(run, nbest, "score_scales=[1]")
    assert "is given twice" in error_of(run, nbest, f"mix=[{runs.lstm}]")
    assert "leave it out" in error_of(run, nbest, "tune=a", "reference=b")
    assert "did you mean lm_weight?" in error_of(run, nbest, "wieght=1")
    assert f"output={lists}: is also read; give another file" in error_of(
        run, nbest, f"output={lists}"
    )
    assert "is also read" in error_of(run, nbest, f"tune={references}", f"output={references}")
    short = tmp_path / "bad"
    short.write_text("".join(references.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")
    assert "no reference for 1 of 12 utterances, the first is u0" in error_of(
        run, nbest, f"tune={short}", "output=new.txt"
    )
    short.write_text("u0 -1 가\nu0 NaN 나\n", "utf-8")
    assert f"{short}:2: the score is nan" in error_of(run, f"nbest={short}", "output=new.txt")
    short.write_text("")
    assert "contains no hypotheses" in error_of(run, f"nbest={short}")


def test_a_closed_pipe_is_no_error(server: CommandServer, runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "n.txt"
    path.write_text("".join(f"u{at} -1 나는 집에 간다.\n" for at in range(5000)), "utf-8")
    ended = server.run(tmp_path, "rescore", f"run={runs.lstm}", f"nbest={path}", unheard=True)
    assert ended.code == 0 and "Traceback" not in ended.err
