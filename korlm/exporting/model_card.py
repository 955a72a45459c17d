"""Write the README.md of an export: a model card in the format of Hugging Face.

A YAML header for the Hub, then what was trained on which text, figures, and usage with and without
korlm.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from korlm._version import __version__
from korlm.config.metrics import LANGUAGE_MODELING, metric_of
from korlm.config.stored import read_json
from korlm.exporting.usage import usage
from korlm.prediction.task_run import TaskRun
from korlm.runs.safetensors import tokenizer_file
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
    files: Collection[str],
    table: str,
) -> str:
    """Return the content of README.md.

    ``files`` are the names of the exported files, ``table`` measurements of the exported models.
    """
    settings = run.settings
    name = f"korlm-{settings.corpus.name}-{settings.model.name}"
    sections = [
        f"# {name}",
        _description(run),
        "## Data\n\n" + _data(run, metrics),
        *(["## Figures\n\n" + _figures(metrics)] if metrics else []),
        "Exported files, as measured by `korlm.export`:\n\n```\n" + table + "\n```",
        "## Usage\n\n" + usage(run, files),
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
