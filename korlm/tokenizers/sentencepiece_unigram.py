"""Pieces that sentencepiece's unigram model learns from train (Kudo 2018), and nothing else.

The model sees eojeols with their counts. Text is not normalized beyond NFC; white space becomes a
single blank, written ▁ as sentencepiece does, at the head of every eojeol. Pieces do not cross
blanks.
"""

from __future__ import annotations

import collections
import io
import itertools
from collections.abc import Iterable

from korlm.config import SentencePieceConfig, TokenizerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL, InProcessTokenizer, Tokenizer
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import version_of

VERSION = 1  # of what is asked of sentencepiece


def train_pieces(config: SentencePieceConfig, lines: Iterable[str]) -> bytes:
    """The model, as sentencepiece writes it to a file; the same text gives the same bytes.

    Memory holds each different eojeol once; of more than 4192 bytes, sentencepiece leaves it out.

    Args:
        config: of the model.
        lines: of train (NFC).

    Raises:
        TokenizerError: there are too few pieces for the characters of the text.
    """
    import sentencepiece

    counts: collections.Counter[str] = collections.Counter()
    for line in lines:
        counts.update(replace_lone_surrogates(line).split())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{eojeol}\t{counts[eojeol]}" for eojeol in sorted(counts)),
            input_format="tsv",
            model_writer=model,
            model_type="unigram",
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,  # a small text has fewer
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            bos_id=-1,  # korlm has marks of its own
            eos_id=-1,
            num_threads=1,  # others add up in another order
            minloglevel=2,
        )
    except RuntimeError as error:
        why = " ".join(str(error).split()).rpartition("] ")[2]  # behind the place in its source
        raise TokenizerError(
            f"tokenizer.vocab_size={config.vocab_size}: sentencepiece cannot learn pieces from "
            f"train ({why.partition('. Increase')[0]}); give a larger one, or a smaller "
            f"tokenizer.character_coverage than {config.character_coverage:g}"
        ) from error
    return model.getvalue()


class SentencePieceTokenizer(InProcessTokenizer):
    """The likeliest pieces of each eojeol; text can be rebuilt but for the kind of its blanks.

    Characters that have no piece stay as they are, in one token as long as they follow each other,
    or with ``byte_fallback`` become one token for each byte of their UTF-8, such as ``<0xEA>``.

    Args:
        config: that the model was trained with.
        model: what ``train_pieces`` gave.

    Raises:
        TokenizerError: the model is damaged.
    """

    name = "sentencepiece"

    def __init__(self, config: SentencePieceConfig, model: bytes) -> None:
        import sentencepiece

        self.version = pieces_version(config)
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(model)
        except RuntimeError as error:
            raise TokenizerError(
                f"the model of sentencepiece is damaged ({' '.join(str(error).split())})"
            ) from error
        self._bytes = config.byte_fallback

    @classmethod
    def from_config(cls, config: TokenizerConfig, learned: bytes | None = None) -> Tokenizer:
        """See ``InProcessTokenizer.from_config``."""
        assert isinstance(config, SentencePieceConfig) and learned is not None
        return cls(config, learned)

    @classmethod
    def train(cls, config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
        """See ``train_pieces``."""
        assert isinstance(config, SentencePieceConfig)
        return train_pieces(config, lines)

    @classmethod
    def version_of(cls, config: TokenizerConfig) -> str:
        """See ``pieces_version``."""
        assert isinstance(config, SentencePieceConfig)
        return pieces_version(config)

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        units = replace_lone_surrogates(text).split()
        if is_blank(text):
            return EMPTY
        pieces: list[str] = self._processor.encode(" ".join(units), out_type=str)
        sizes = map(len, pieces)
        lengths = [1 + len(unit) for unit in units]  # with the blank before it
        if self._bytes:
            sizes = map(self._num_bytes, pieces)
            lengths = [len((SPACE_SYMBOL + unit).encode()) for unit in units]
        owner = [index for index, length in enumerate(lengths) for _ in range(length)]
        begins = itertools.accumulate(sizes, initial=0)
        eojeol = [owner[begin] for begin, _ in zip(begins, pieces, strict=False)]
        return Analysis(pieces, [""] * len(pieces), eojeol)

    def _num_bytes(self, piece: str) -> int:
        is_byte = self._processor.is_byte(self._processor.piece_to_id(piece))
        return 1 if is_byte else len(piece.encode())


def pieces_version(config: SentencePieceConfig) -> str:
    """Which sentencepiece this is and what it is asked for.

    Raises:
        TokenizerError: it is not installed.
    """
    asked = f"unigram {config.vocab_size}, coverage {config.character_coverage:g}"
    version = f"{VERSION}, sentencepiece {version_of('sentencepiece', config.name)}, {asked}"
    return version + ", bytes" * config.byte_fallback
