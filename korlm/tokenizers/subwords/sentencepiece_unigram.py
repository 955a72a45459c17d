"""Tokenize into pieces of sentencepiece's unigram model (Kudo 2018), trained on train only.

The model is trained on eojeols and their counts. Text is not normalized beyond NFC; every eojeol
starts with ▁, and pieces do not cross eojeols. ``tokenizer.file`` is a model of others, which may
be of any type, normalize text and have pieces that cross eojeols.
"""

from __future__ import annotations

import collections
import io
import itertools
from collections.abc import Iterable

from korlm.config import SentencePieceConfig, TokenizerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL, InProcessTokenizer
from korlm.tokenizers.subwords.given_file import digest_of, read_tokenizer_file
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import package_version

VERSION = 1  # version of the parameters passed to sentencepiece; part of fingerprints


def train_pieces(config: SentencePieceConfig, lines: Iterable[str]) -> bytes:
    """Train a model, and return it in sentencepiece's file format; equal text gives equal bytes.

    Memory holds each distinct eojeol once. Sentencepiece ignores eojeols of over 4192 bytes.

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
            hard_vocab_limit=False,  # a small text yields fewer pieces
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            bos_id=-1,  # korlm has its own special tokens
            eos_id=-1,
            num_threads=1,  # the order of float additions depends on it
            minloglevel=2,
        )
    except RuntimeError as error:
        why = " ".join(str(error).split()).rpartition("] ")[2]  # without its source location
        raise TokenizerError(
            f"tokenizer.vocab_size={config.vocab_size}: sentencepiece cannot learn pieces from "
            f"train ({why.partition('. Increase')[0]}); give a larger one, or a smaller "
            f"tokenizer.character_coverage than {config.character_coverage:g}"
        ) from error
    return model.getvalue()


class SentencePieceTokenizer(InProcessTokenizer):
    """Splits eojeols into their most likely pieces.

    The text can be restored from the tokens, except for the kind and amount of its white space.
    Consecutive characters without pieces are one token or, with ``byte_fallback``, one token for
    each byte of their UTF-8, such as ``<0xEA>``.

    Args:
        config: settings of the training, or the path of the model.
        model: result of ``train_pieces``, or the content of the file.

    Raises:
        TokenizerError: the model is damaged.
    """

    name = "sentencepiece"

    def __init__(self, config: SentencePieceConfig, model: bytes) -> None:
        import sentencepiece

        self._is_given = config.file is not None
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(model)
        except RuntimeError as error:
            raise TokenizerError(
                "the sentencepiece model is damaged, or a file of another kind "
                f"({' '.join(str(error).split())})"
            ) from error
        self._bytes = config.byte_fallback

    @classmethod
    def from_config(
        cls, config: TokenizerConfig, learned: bytes | None = None
    ) -> InProcessTokenizer:
        """See ``InProcessTokenizer.from_config``."""
        assert isinstance(config, SentencePieceConfig) and learned is not None
        return cls(config, learned)

    @classmethod
    def train(cls, config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
        """See ``train_pieces``."""
        assert isinstance(config, SentencePieceConfig)
        if config.file is None:
            return train_pieces(config, lines)
        model = read_tokenizer_file(config.file)
        cls(config, model)  # a damaged model is refused before any text is read
        return model

    @classmethod
    def version_of(cls, config: TokenizerConfig, learned: bytes | None = None) -> str:
        """Return the version of sentencepiece and the parameters or the digest of the model.

        Raises:
            TokenizerError: sentencepiece is not installed, or the file cannot be read.
        """
        assert isinstance(config, SentencePieceConfig)
        version = f"{VERSION}, sentencepiece {package_version('sentencepiece', config.name)}, "
        if config.file is not None:
            model = read_tokenizer_file(config.file) if learned is None else learned
            return version + digest_of(model)
        version += f"unigram {config.vocab_size}, coverage {config.character_coverage:g}"
        return version + ", bytes" * config.byte_fallback

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        units = replace_lone_surrogates(text).split()
        if is_blank(text):
            return EMPTY
        if self._is_given:
            return self._analyze_normalized(units)
        pieces: list[str] = self._processor.encode(" ".join(units), out_type=str)
        sizes = map(len, pieces)
        lengths = [1 + len(unit) for unit in units]  # counts the ▁ before it
        if self._bytes:  # a piece may be a part of a character, so count bytes
            sizes = map(self._num_bytes, pieces)
            lengths = [len((SPACE_SYMBOL + unit).encode()) for unit in units]
        eojeol_at = [index for index, length in enumerate(lengths) for _ in range(length)]
        begins = itertools.accumulate(sizes, initial=0)
        eojeol = [eojeol_at[begin] for begin, _ in zip(begins, pieces, strict=False)]
        return Analysis(pieces, [""] * len(pieces), eojeol)

    def _analyze_normalized(self, units: list[str]) -> Analysis:
        """Return the tokens of one line of a model that may change the text: by the ▁ in them."""
        pieces: list[str] = self._processor.encode(" ".join(units), out_type=str)
        heads = (len(piece) - len(piece.lstrip(SPACE_SYMBOL)) for piece in pieces)
        counts = (piece.count(SPACE_SYMBOL) for piece in pieces)
        starts = itertools.accumulate(counts, initial=0)
        eojeol = [
            min(max(start + head - 1, 0), len(units) - 1)
            for start, head in zip(starts, heads, strict=False)
        ]
        return Analysis(pieces, [""] * len(pieces), eojeol)

    def _num_bytes(self, piece: str) -> int:
        """Return the number of bytes of text that a piece stands for; 1 for ``<0xEA>``."""
        is_byte = self._processor.is_byte(self._processor.piece_to_id(piece))
        return 1 if is_byte else len(piece.encode())
