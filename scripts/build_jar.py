"""Builds korlm/tokenizers/java/kkma.jar, the fast Kkma engine, from the Java sources beside it.

The jar also holds Kkma's dictionary and probabilities (``Image.java``), made of konlpy's Kkma.

    python scripts/build_jar.py [--check]

For whoever changes the Java sources; users get the jar as it is and need no compiler. Wants a JDK
of 11 or later (``javac`` on the PATH or in JAVA_HOME) and konlpy, whose Kkma the sources are
compiled against. Equal sources and an equal javac make equal bytes. The manifest holds a digest of
the sources and one of konlpy's Kkma, by which a test knows a jar that was not built from them.
``--check`` only compares.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "korlm" / "tokenizers" / "java"
JAR = FOLDER / "kkma.jar"
# Release 11 is the oldest Java that runs the classes. Concatenation by StringBuilder starts faster.
OPTIONS = ["-Xlint:all", "-Werror", "-g:none", "--release", "11", "-encoding", "UTF-8"]
OPTIONS += ["-XDstringConcat=inline"]


def sources() -> list[Path]:
    """The Java sources, in a fixed order."""
    return sorted(FOLDER.rglob("*.java"), key=lambda path: path.relative_to(FOLDER).as_posix())


def source_digest() -> str:
    """SHA-256 of all sources and their names; line ends do not count."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.relative_to(FOLDER).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def dictionary_digest() -> str:
    """SHA-256 of konlpy's Kkma, whose dictionary the jar holds."""
    return hashlib.sha256(kkma().read_bytes()).hexdigest()


def built_digests() -> tuple[str, str]:
    """The digests of the sources and of konlpy's Kkma that the jar was built from."""
    with zipfile.ZipFile(JAR) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "")
    fields = dict(line.split(": ", 1) for line in manifest.splitlines() if ": " in line)
    return fields["Source-Digest"], fields["Dictionary-Digest"]


def kkma() -> Path:
    """The jar of konlpy's Kkma."""
    konlpy = importlib.util.find_spec("konlpy")
    if konlpy is None or konlpy.origin is None:
        sys.exit("konlpy is not installed: run scripts/train once, then use its .venv")
    return Path(konlpy.origin).parent / "java" / "kkma-2.0.jar"


def build() -> None:
    """Compiles the sources and packs the classes."""
    home = os.environ.get("JAVA_HOME")
    javac = shutil.which("javac", path=f"{home}/bin" if home else None) or shutil.which("javac")
    if javac is None:
        sys.exit("there is no javac: install a JDK of version 11 or later")
    with tempfile.TemporaryDirectory() as classes:
        subprocess.run(
            [javac, *OPTIONS, "-cp", str(kkma()), "-d", classes, *map(str, sources())],
            check=True,
        )
        image = Path(classes) / "korlm" / "kkma" / "dictionary.bin"
        java = str(Path(javac).with_name("java"))
        classpath = os.pathsep.join([classes, str(kkma())])
        subprocess.run(
            [
                java,
                "-Dfile.encoding=UTF-8",
                "-cp",
                classpath,
                "korlm.kkma.ImageBuilder",
                str(image),
            ],
            check=True,
        )
        manifest = "Manifest-Version: 1.0\r\n"
        digests = {"Source": source_digest(), "Dictionary": dictionary_digest()}
        for name, digest in digests.items():
            # A manifest's lines end after 72 bytes and go on behind a blank.
            manifest += f"{name}-Digest: {digest[:50]}\r\n {digest[50:]}\r\n"
        manifest += "\r\n"
        temporary = JAR.with_suffix(".tmp")
        with zipfile.ZipFile(temporary, "w") as jar:
            _add(jar, "META-INF/MANIFEST.MF", manifest.encode())
            for path in [*sorted(Path(classes).rglob("*.class")), image]:
                _add(jar, path.relative_to(classes).as_posix(), path.read_bytes())
        temporary.replace(JAR)


def _add(jar: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    jar.writestr(entry, data)


def main() -> None:
    """Builds the jar, or compares it with its sources."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare the jar to its sources")
    if not parser.parse_args().check:
        build()
    if built_digests() != (source_digest(), dictionary_digest()):
        sys.exit(
            f"{JAR} was not built from the sources beside it and konlpy's Kkma: "
            "python scripts/build_jar.py"
        )


if __name__ == "__main__":
    main()
