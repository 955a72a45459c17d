"""Write the README.md of an export: a model card in the format of Hugging Face.

A YAML header for the Hub, then what was trained on which text, figures, usage with korlm, and the
inputs and outputs of the ONNX graphs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from korlm._version import __version__
from korlm.config import UnicodeForm
from korlm.config.metrics import LANGUAGE_MODELING, metric_of
from korlm.config.stored import read_json
from korlm.prediction.task_run import TaskRun
from korlm.runs.safetensors import MODEL, tokenizer_file
from korlm.runs.trained_run import TrainedRun
from korlm.utils.io.tables import rounded

CARD = "README.md"
MAX_ROWS = 12  # metrics of a table

Metrics = Mapping[str, Mapping[str, Any]]  # split -> metric -> value

# Tasks of the Hub.
PIPELINES = {
    LANGUAGE_MODELING: "text-generation",
    "classification": "text-classification",
    "tagging": "token-classification",
    "seq2seq": "text2text-generation",
}


def trained_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of a run or of an export by split; empty if it has none."""
    for name, key in (("metrics.json", None), ("export.json", "metrics")):
        try:
            content = read_json(folder / name)
            metrics = content if key is None else content[key]
            return {
                split: {
                    str(name): value
                    for name, value in row.items()
                    if isinstance(value, (int, float)) and not isinstance(value, bool)
                }
                for split, row in metrics.items()
            }
        except (OSError, ValueError, LookupError, AttributeError):
            continue
    return {}


def model_card(
    run: TrainedRun | TaskRun,
    license_id: str,
    metrics: Metrics,
    folder: Path,
    table: str,
) -> str:
    """Return the content of README.md.

    ``folder`` has the exported files, ``table`` measurements of the exported models.
    """
    settings = run.settings
    name = f"korlm-{settings.corpus.name}-{settings.model.name}"
    sections = [
        f"# {name}",
        _description(run),
        "## Data\n\n" + _data(run, metrics),
        *(["## Figures\n\n" + _figures(metrics)] if metrics else []),
        "Exported files, as measured by `korlm.export`:\n\n```\n" + table + "\n```",
        "## Usage\n\n" + _usage(run, folder),
    ]
    header = yaml.safe_dump(_header(run, name, license_id, metrics), allow_unicode=True)
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def _header(
    run: TrainedRun | TaskRun, name: str, license_id: str, metrics: Metrics
) -> dict[str, Any]:
    """Return the metadata that the Hub reads."""
    settings = run.settings
    task = settings.task.name
    header: dict[str, Any] = {
        "language": "ko",
        "license": license_id,
        "library_name": "korlm",
        "tags": ["korean", "korlm", settings.model.name, settings.tokenizer.name],
    }
    pipeline = PIPELINES.get(task)
    if pipeline:
        header["pipeline_tag"] = pipeline
    values = [
        {"type": key, "value": value, "name": f"{split} {key}"}
        for split, row in metrics.items()
        if split != "train"
        for key, value in _quality(row).items()
        if math.isfinite(value)
    ]
    if values:
        header["metrics"] = sorted({value["type"] for value in values})
        header["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": pipeline or task},
                        "dataset": {"name": settings.corpus.name, "type": settings.corpus.name},
                        "metrics": values,
                    }
                ],
            }
        ]
    return header


def _description(run: TrainedRun | TaskRun) -> str:
    settings = run.settings
    kind = "language model" if isinstance(run, TrainedRun) else f"model for {settings.task.name}"
    weights = sum(part.numel() for part in run.model.parameters())
    size = f" of {weights:,} parameters" if weights else ""
    return (
        f"A Korean {kind} (`model={settings.model.name}`{size}), exported with korlm "
        f"{__version__}. All settings are in `config.json`."
    )


def _data(run: TrainedRun | TaskRun, metrics: Metrics) -> str:
    settings = run.settings
    lines = [
        f"- corpus `{settings.corpus.name}`, prepared as `{run.fingerprint}`; documents of valid "
        "and test were not trained on",
        f"- tokens: `tokenizer={settings.tokenizer.name}`, a vocabulary of {len(run.vocab):,}, "
        f"Unicode normalization `{settings.corpus.unicode.value}`",
    ]
    if run.tokenizer_model is not None:
        lines.append(f"- the tokenizer is `{tokenizer_file(settings.tokenizer.name)}`")
    lines += [
        f"- {split}: {row['num_tokens']:,} tokens, {row['num_chars']:,} characters"
        for split, row in metrics.items()
        if "num_tokens" in row and "num_chars" in row
    ]
    if run.labels:
        shown = ", ".join(f"`{label}`" for label in run.labels[:20])
        lines.append(f"- labels: {shown}{', ...' * (len(run.labels) > 20)}")
    return "\n".join(lines)


def _usage(run: TrainedRun | TaskRun, folder: Path) -> str:
    parts = []
    if (folder / MODEL).exists():
        method = "score" if isinstance(run, TrainedRun) else "predict"
        code = f'import korlm\n\nrun = korlm.load(".")\nprint(run.{method}(["나는 간다."]))\n'
        parts.append(f"With korlm, in the folder of these files:\n\n```python\n{code}```")
    graphs = [path for path in sorted(folder.glob("*.onnx")) if ".int8" not in path.suffixes]
    if graphs:
        parts += [
            "Without korlm and PyTorch, use the ONNX graphs. Those with `int8` in their names have "
            "the same inputs and outputs:\n\n" + _graph_table(graphs),
            "The documentation of `korlm.export` (`korlm/exporting/README.md`) has an example for "
            "each graph.",
        ]
    if changes := _changes(run):
        parts.append(f"Before tokens are looked up in `vocab.tsv`: {', '.join(changes)}.")
    return "\n\n".join(parts)


def _graph_table(graphs: Sequence[Path]) -> str:
    from korlm.exporting.onnx_graph import inputs_and_outputs

    rows = ["| graph | | name | type | shape |", "| --- | --- | --- | --- | --- |"]
    for path in graphs:
        for use, name, kind, shape in inputs_and_outputs(path):
            rows.append(f"| `{path.name}` | {use} | `{name}` | {kind} | {shape} |")
    return "\n".join(rows)


def _changes(run: TrainedRun | TaskRun) -> list[str]:
    """Return what was changed in the text and the tokens of the vocabulary."""
    settings = run.settings
    changes = {
        "normalize the text to NFKC": settings.corpus.unicode is UnicodeForm.nfkc,
        "write tokens in lower case": settings.vocab.lowercase,
        "normalize numbers (`vocab.normalize_numbers`)": settings.vocab.normalize_numbers,
    }
    return [change for change, is_needed in changes.items() if is_needed]


def _quality(row: Mapping[str, Any]) -> dict[str, Any]:
    quality = [item for item in row.items() if metric_of(item[0]).is_quality]
    return dict(quality[:MAX_ROWS])


def _figures(metrics: Metrics) -> str:
    names = list(dict.fromkeys(key for row in metrics.values() for key in _quality(row)))
    rows = [["", *metrics], ["---"] * (len(metrics) + 1)]
    for name in names:
        cells = (rounded(row[name]) if name in row else "" for row in metrics.values())
        rows.append([name, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
