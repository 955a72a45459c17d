"""Write the code of a model card: how to use an export with korlm, and without it."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from typing import NamedTuple

from korlm.config import Seq2SeqConfig, TaggingConfig, TagHead, TagLabels, TagUnits
from korlm.runs.trained_run import Run, TrainedRun
from korlm.tasks.morpheme_tags import NUM_TAGS

# Modules to import, and the code after "tokens = " for the tokens of one line; of other tokenizers,
# the user inserts the tokens.
TOKENS_OF = {
    "eojeol": ([], "text.split()"),
    "syllable": ([], '["▁" if c.isspace() else c for c in text]'),
    "jamo": (
        ["unicodedata"],
        '"".join(unicodedata.normalize("NFD", c) if "가" <= c <= "힣" else c for c in text)\n'
        'tokens = ["▁" if c.isspace() else c for c in tokens]',
    ),
    "sentencepiece": (
        ["sentencepiece"],
        'sentencepiece.SentencePieceProcessor(model_file="tokenizer.model").encode(text, '
        "out_type=str)",
    ),
    "huggingface": (
        ["tokenizers"],
        'tokenizers.Tokenizer.from_file("tokenizer.json").encode(text, '
        "add_special_tokens=False).tokens",
    ),
    **{
        name: (["konlpy.tag"], f"konlpy.tag.{name.capitalize()}().morphs(text)")
        for name in ("kkma", "okt", "komoran", "hannanum")
    },
}
# Expressions for the text of tokens; of other tokenizers they are separated by blanks.
TEXT_OF = {
    "syllable": '"".join(written).replace("▁", " ")',
    "jamo": 'unicodedata.normalize("NFC", "".join(written)).replace("▁", " ")',
    "sentencepiece": '"".join(written).replace("▁", " ").strip()',
}

VOCAB = """\
with open("vocab.tsv", encoding="utf-8") as file:
    escaped = [line.split("\\t")[0] for line in file]
ids = {token.replace("\\\\\\\\", "\\\\"): number for number, token in enumerate(escaped)}
"""
ROW = """\
row = np.array([[ids.get(token, ids["<unk>"]) for token in [*tokens, "<eos>"]]], dtype=np.int64)
inputs = {"ids": row, "lengths": np.array([row.shape[1]], dtype=np.int64)}
"""

SCORE = """\
session = onnxruntime.InferenceSession("step.onnx")
token_id = int(session.get_modelmeta().custom_metadata_map["start_id"])
state, nats = dict(np.load("begin.npz")), 0.0
for token in [*tokens, "<eos>"]:
    inputs = {"ids": np.array([token_id], dtype=np.int64), **state}
    log_probs, *after = session.run(None, inputs)
    state, token_id = dict(zip(state, after)), ids.get(token, ids["<unk>"])
    nats -= log_probs[0, token_id]
print(f"{nats:.3f} nats")
"""

CLASSIFY = """\
session = onnxruntime.InferenceSession("classifier.onnx")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
(log_probs,) = session.run(None, inputs)
print(dict(zip(labels, np.exp(log_probs[0]).tolist())))
"""

VITERBI = """\


def best_labels(scores, start, transitions, end):
    total, origins = start + scores[0], []
    for row in scores[1:]:
        paths = total[:, None] + transitions
        total, origins = paths.max(0) + row, [*origins, paths.argmax(0)]
    best = [int((total + end).argmax())]
    for origin in reversed(origins):
        best.append(int(origin[best[-1]]))
    return best[::-1]


"""
# Expressions for the index of the last token of each unit; EOJEOLS is of characters or jamo.
TOKENS = '[n for n, token in enumerate(tokens) if token != "▁"]'
EOJEOLS = '[n for n in range(len(tokens)) if tokens[n] != "▁" == [*tokens, "▁"][n + 1]]'
KKMA_TAGS = f"""\
tags = np.zeros_like(row)
# Insert (tag, begin, end) of each morpheme, in characters of text. Where korlm is installed:
# [token[1:] for token in korlm.Kkma().tokens(text)]
morphemes = []
for tag, begin, end in morphemes:
    for n in range(begin, end):
        if not tags[0, n]:
            name = ("I-" if n > begin else "B-") + tag
            tags[0, n] = 1 + zlib.crc32(name.encode()) % {NUM_TAGS - 1}
inputs["tags"] = tags
"""
TAG = """\
inputs["units"] = np.array([units], dtype=np.int64)
session = onnxruntime.InferenceSession("tagger.onnx")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
scores, *crf = session.run(None, inputs)
"""
TAG_PARTS = """\
begins = [0, *(end + 1 for end in units)]
parts = [(begin, end + 1, labels[label]) for begin, end, label in zip(begins, units, best)]
"""
SPAN_PARTS = """\
parts, before = [], "O"
for begin, end, label in zip([0, *(end + 1 for end in units)], units, best):
    name = labels[label]
    if name[0] in "IE" and before[0] in "BI" and name[2:] == before[2:]:
        parts[-1][1] = end + 1
    elif name != "O":
        parts.append([begin, end + 1, name[2:]])
    before = name
"""
PRINT_PARTS = """\
for begin, end, name in parts:
    print("".join(tokens[begin:end]).replace("▁", " ").strip(), name, sep="\\t")
"""
KEEP_SPACES = """\
after_blank = np.cumsum([len(word) for word in text.split()])[:-1]
scores[0, after_blank, 1] += 1e4  # the spaces of the text are kept
"""
INSERT_SPACES = """\
hangul = ["가" <= c <= "힣" or "ㄱ" <= c <= "ㅣ" for c in tokens]
spaced = tokens[0]
for n in range(1, len(tokens)):
    may_be_spaced = n in after_blank or hangul[n - 1] or hangul[n]
    spaced += " " * (best[n] and may_be_spaced) + tokens[n]
print(spaced)
"""

WRITE = """\
encoder, decoder = map(onnxruntime.InferenceSession, ("encoder.onnx", "decoder.onnx"))
settings = decoder.get_modelmeta().custom_metadata_map
names = [output.name for output in encoder.get_outputs()]
inputs |= dict(zip(names, encoder.run(None, inputs)))
limit = float(settings["max_length_ratio"]) * row.shape[1] + int(settings["extra_length"])
token_id, written = int(settings["bos_id"]), []
while len(written) < limit:
    inputs["ids"] = np.array([token_id], dtype=np.int64)
    log_probs, weights, *state = decoder.run(None, inputs)
    inputs |= dict(zip(names[2:], state))
    log_probs[:, [int(number) for number in settings["banned_ids"].split()]] = -np.inf
    token_id = int(log_probs.argmax())
    if token_id == int(settings["eos_id"]):
        break
    written.append(list(ids)[token_id])
"""


class _Code(NamedTuple):
    """Code without korlm: modules and packages to import, such as "numpy as np", and the rest."""

    standard: list[str]
    packages: list[str]
    text: str


def usage(run: Run, files: Collection[str]) -> str:
    """Return the section of a model card on the use of a run's export with these files."""
    parts = []
    if "model.safetensors" in files:
        method = "score" if isinstance(run, TrainedRun) else "predict"
        code = f'import korlm\n\nrun = korlm.load(".")\nprint(run.{method}(["나는 간다."]))\n'
        parts.append(f"With korlm, in the folder of these files:\n\n```python\n{code}```")
    if example := _without_korlm(run, files):
        packages = ", ".join(re.split(r"[. ]", name)[0] for name in example.packages)
        groups = [names for names in (example.standard, example.packages) if names]
        imports = "\n\n".join("\n".join(f"import {name}" for name in names) for names in groups)
        between = "" if example.text.startswith("\n") else "\n"
        parts.append(
            f"Without korlm and PyTorch ({packages}):\n\n"
            f"```python\n{imports}\n{between}{example.text}```"
        )
        parts += _notes(run)
    if not parts:
        parts.append("See korlm's documentation of `korlm.export`.")
    return "\n\n".join(parts)


def _without_korlm(run: Run, files: Collection[str]) -> _Code | None:
    """Return the code for the files; None if no file is an ONNX graph."""
    name, config = run.settings.tokenizer.name, run.settings.task
    missing = f"[]  # insert the tokens of text, as tokenizer={name} splits it"
    used, tokens = TOKENS_OF.get(name, ([], missing))
    text, definitions = "나는 학교에 간다.", ""
    if "step.onnx" in files:
        code, more = SCORE, []
    elif "classifier.onnx" in files:
        code, more = ROW + CLASSIFY, ["json"]
    elif "tagger.onnx" in files:
        assert isinstance(config, TaggingConfig)
        code, more = _tagging(config, name)
        definitions = VITERBI if config.head is TagHead.crf else ""
        if config.labels is TagLabels.spaces:
            text, tokens = "나는 학교에간다.", "[c for c in text if not c.isspace()]"
    elif "decoder.onnx" in files:
        written = TEXT_OF.get(name, '" ".join(written)')
        code, more = ROW + WRITE + f"print({written})\n", []
    else:
        return None
    modules = sorted({"numpy", "onnxruntime", *used, *more})
    standard = [name for name in modules if name in sys.stdlib_module_names]
    packages = [name for name in modules if name not in standard]
    packages[packages.index("numpy")] = "numpy as np"
    head = f'{VOCAB}text = "{text}"\ntokens = {tokens}\n'
    return _Code(standard, packages, definitions + head + code)


def _tagging(config: TaggingConfig, tokenizer: str) -> tuple[str, list[str]]:
    """Return the code of a tagger after the tokens, and modules that it imports."""
    is_spaces, units = config.labels is TagLabels.spaces, TOKENS
    if config.units is TagUnits.eojeol and tokenizer != "eojeol":
        has_blanks = tokenizer in ("syllable", "jamo")
        units = EOJEOLS if has_blanks else "[]  # insert the index of the last token of each eojeol"
    best = "scores[0].argmax(1)"
    if config.head is TagHead.crf:
        best = "best_labels(scores[0], *crf)"
    code = ROW + f"units = {units}\n" + (KKMA_TAGS if config.kkma_dim else "") + TAG
    code += (KEEP_SPACES if is_spaces else "") + f"best = {best}\n"
    parts = {TagLabels.spans: SPAN_PARTS, TagLabels.tags: TAG_PARTS}
    code += INSERT_SPACES if is_spaces else parts[config.labels] + PRINT_PARTS
    return code, ["json", *(["zlib"] if config.kkma_dim else [])]


def _notes(run: Run) -> list[str]:
    """Return what else to do to texts and results, in sentences."""
    settings, changes, notes = run.settings, [], []
    if settings.corpus.unicode.value not in ("nfc", "none"):
        changes.append(f"normalize the text to {settings.corpus.unicode.value.upper()}")
    if settings.vocab.lowercase:
        changes.append("write tokens in lower case")
    if settings.vocab.normalize_numbers:
        changes.append("normalize numbers (`vocab.normalize_numbers`)")
    if changes:
        what = ", ".join(changes)
        notes.append(f"The vocabulary holds changed tokens: before the lookup, {what}.")
    config = settings.task
    if isinstance(run, TrainedRun):
        notes.append(
            "Unlike `run.score`, the code leaves out the cost of spelling unknown tokens "
            "(`open_vocabulary=False`)."
        )
    if isinstance(config, TaggingConfig):
        notes.append("Skip blank texts: the graph needs a unit to label.")
    if isinstance(config, TaggingConfig) and config.kkma_dim:
        notes.append(
            "The model reads tags of Kkma's morphemes; without them it labels less well. The tag "
            "of a token is that of its first character (in the code each token is a character)."
        )
    if isinstance(config, Seq2SeqConfig) and config.num_beams > 1:
        notes.append(
            "The code takes the most probable token in each step, as korlm does with one beam; "
            f"the figures above are of a search with {config.num_beams} beams."
        )
    return notes
