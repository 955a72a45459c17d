"""Settings of a prepared corpus, and of where it is tokenized."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.groups.data import CorpusConfig, TokenizerConfig, VocabConfig
from korlm.config.registry import register
from korlm.config.validation import MISSING, CommandSettings, Group, setting

LOCAL, SLURM = "local", "slurm"
_LOCAL_OR_SLURM_KEYS = ("workers", "memory_gb")
_SLURM_KEYS = ("queue", "account", "walltime", "interface", "sbatch")


@dataclass
class ClusterConfig(Group):
    """Dask cluster that tokenizes; a resumed run or sweep does not remember these settings."""

    _group: ClassVar[str] = "prepare"

    cluster: str | None = setting(
        None,
        "local: processes of this machine; slurm: SLURM jobs; or the address of a running Dask "
        "scheduler, such as tcp://HOST:8786; null: no cluster.",
    )
    workers: int | None = setting(
        None,
        "Worker processes, each with one JVM of tokenizer.threads (null: 4) threads; required for "
        "slurm; null: local cores / threads.",
        min=1,
        max=4096,
    )
    memory_gb: float | None = setting(
        None,
        "Memory of each worker and its JVM; null: tokenizer.heap_mb + 1 GB.",
        unit="GB",
        min=1,
        max=4096,
    )
    queue: str | None = setting(None, "SLURM partition; null: the default partition.")
    account: str | None = setting(None, "SLURM account.")
    walltime: str = setting(
        "01:00:00", "Time limit of each SLURM job, which later jobs continue.", unit="h:m:s"
    )
    interface: str | None = setting(
        None, "Network interface by which SLURM workers reach this process, such as ib0."
    )
    sbatch: list[str] = setting(list, "More options of sbatch, such as '[\"--constraint=amd\"]'.")

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.cluster
        if not (kind in (None, LOCAL, SLURM) or re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", kind)):
            self._fail("cluster", "must be local, slurm or an address such as tcp://HOST:8786")
        if kind == SLURM and self.workers is None:
            self._fail("workers", "prepare.cluster=slurm needs a number of workers")
        if not re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", self.walltime):
            self._fail("walltime", "must be hours:minutes:seconds, such as 01:00:00")
        unused = {
            key: "local or slurm" for key in _LOCAL_OR_SLURM_KEYS if kind not in (LOCAL, SLURM)
        }
        unused |= {key: "slurm" for key in _SLURM_KEYS if kind != SLURM}
        for field in dataclasses.fields(self):
            default = field.default if field.name != "sbatch" else []
            if field.name in unused and getattr(self, field.name) != default:
                needed = unused[field.name]
                self._fail(
                    field.name, f"has no effect without prepare.cluster={needed}; leave it out"
                )


@dataclass
class CorpusSettings(CommandSettings):
    """Settings of a prepared corpus."""

    corpus: CorpusConfig = setting(MISSING)
    tokenizer: TokenizerConfig = setting(MISSING)
    vocab: VocabConfig = setting(VocabConfig)
    prepare: ClusterConfig = setting(ClusterConfig)
    outputs: str = setting("outputs", "Folder of prepared corpora, runs and sweeps.", is_path=True)


@register("", "prepare")
@dataclass
class PrepareSettings(CorpusSettings):
    """Tokenize a Korean corpus, build its vocabulary and write its token ids.

    Writes outputs/prepared/<corpus>-<tokenizer>-<fingerprint> and prints its name; what is there
    already is not prepared again. Then prints a report (counts, duplicates, longest lines, unknown
    words by vocabulary size), also written there as statistics.json and frequencies.png.

      python -m korlm.prepare                                           the texts of konlpy
      python -m korlm.prepare corpus=text 'corpus.files=[FOLDER]'       your text, split by document
      python -m korlm.prepare tokenizer=syllable vocab.min_freq=1       syllables, not morphemes
      python -m korlm.prepare report=false                              without the report
      python -m korlm.prepare prepare.cluster=slurm prepare.workers=64  tokenize in SLURM jobs
    """

    report: bool = setting(True, "Print a report about the corpus, and write it there.")
