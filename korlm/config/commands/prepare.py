"""Settings of a prepared corpus, and of where it is tokenized."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from korlm.config.groups.corpus import CorpusConfig
from korlm.config.groups.tokenizer import TokenizerConfig, VocabConfig
from korlm.config.registry import register
from korlm.config.validation import MISSING, CommandSettings, Group, setting

MAX_PORT = 65535
LOCAL, SLURM, KUBERNETES = "local", "slurm", "kubernetes"


@dataclass
class ClusterConfig(Group):
    """Cluster that prepares a corpus; a resumed run or sweep does not remember these settings."""

    _group: ClassVar[str] = "prepare"

    cluster: str | None = setting(
        None,
        "Dask cluster. local: processes of this machine; slurm: SLURM jobs; kubernetes: pods; or "
        "the address of a running Dask scheduler, such as tcp://HOST:8786; null: no cluster.",
    )
    workers: int | None = setting(
        None,
        "Worker processes, each with one JVM of tokenizer.threads (null: 4) threads; required for "
        "slurm and kubernetes; null: local cores / threads.",
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
    options: Any = setting(
        None,
        "Further arguments of Dask's LocalCluster, dask_jobqueue.SLURMCluster or "
        "dask_kubernetes.operator.KubeCluster, such as '{queue: gpu, walltime: \"04:00:00\"}'.",
    )
    folder: str | None = setting(
        None,
        "Folder, or URL such as s3://BUCKET/FOLDER, where workers write the token files; null: "
        "outputs. They stay there; those under a URL are fetched when something reads them.",
        is_path=True,
    )
    piece_mb: float = setting(
        64,
        "Text is prepared in pieces of this size, or up to twice as large; whole files if they "
        "are smaller or compressed. Another size means another preparation.",
        unit="MB",
        above=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.cluster
        names = (None, LOCAL, SLURM, KUBERNETES)
        if kind not in names:
            address = re.fullmatch(r"(tcp|tls)://[^\s/]+:(\d{1,5})", kind)
            if address is None or not 0 < int(address[2]) <= MAX_PORT:
                self._fail(
                    "cluster",
                    "must be local, slurm, kubernetes or an address such as tcp://HOST:8786, with "
                    f"a port of 1 to {MAX_PORT}",
                )
        if kind in (SLURM, KUBERNETES) and self.workers is None:
            self._fail("workers", f"prepare.cluster={kind} needs a number of workers")
        if not isinstance(self.options, dict | None):
            self._fail("options", "must be {NAME: VALUE, ...}")
        if kind is None or "://" in kind:
            for key in ("workers", "memory_gb", "options"):
                if getattr(self, key) is not None:
                    needed = "prepare.cluster=local, slurm or kubernetes"
                    self._fail(key, f"has no effect without {needed}; leave it out")


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
