"""Build korlm/tokenizers/java/kkma.jar, the fast Kkma engine, from the Java sources in its folder.

    python scripts/build_jar.py [--check]

Run it after a change of the Java sources, and commit the jar: users need no compiler. Requires JDK
11 or later (``javac`` in JAVA_HOME or on the PATH) and konlpy, since the sources are compiled
against its Kkma. The jar also holds the dictionary and probabilities of konlpy's Kkma
(``Image.java``). The build is reproducible: the same sources and javac produce the same bytes.

The manifest of the jar has the digests of the sources and of konlpy's Kkma. ``--check`` compares
them without building; exit code 1 if they differ.
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
# Java 11 is the oldest that runs the classes. String concatenation by StringBuilder starts faster.
OPTIONS = ["-Xlint:all", "-Werror", "-g:none", "--release", "11", "-encoding", "UTF-8"]
OPTIONS += ["-XDstringConcat=inline"]


def sources() -> list[Path]:
    """Return the Java sources in a fixed order."""
    return sorted(FOLDER.rglob("*.java"), key=lambda path: path.relative_to(FOLDER).as_posix())


def source_digest() -> str:
    """Return the SHA-256 of all sources and their names, with line ends normalized."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.relative_to(FOLDER).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def dictionary_digest() -> str:
    """Return the SHA-256 of konlpy's Kkma, whose dictionary the jar holds."""
    return hashlib.sha256(konlpy_jar().read_bytes()).hexdigest()


def built_digests() -> tuple[str, str]:
    """Return the digests in the jar: of its sources and of konlpy's Kkma."""
    with zipfile.ZipFile(JAR) as jar:
        manifest = jar.read("META-INF/MANIFEST.MF").decode().replace("\r\n ", "")
    fields = dict(line.split(": ", 1) for line in manifest.splitlines() if ": " in line)
    return fields["Source-Digest"], fields["Dictionary-Digest"]


def konlpy_jar() -> Path:
    """Return the path of the jar of konlpy's Kkma."""
    konlpy = importlib.util.find_spec("konlpy")
    if konlpy is None or konlpy.origin is None:
        sys.exit("konlpy is not installed: run scripts/train once, then use .venv/bin/python")
    return Path(konlpy.origin).parent / "java" / "kkma-2.0.jar"


def build() -> None:
    """Compile the sources, build the dictionary image and write the jar."""
    home = os.environ.get("JAVA_HOME")
    javac = shutil.which("javac", path=f"{home}/bin" if home else None) or shutil.which("javac")
    if javac is None:
        sys.exit("javac not found: install JDK 11 or later, or set JAVA_HOME")
    with tempfile.TemporaryDirectory() as classes:
        subprocess.run(
            [javac, *OPTIONS, "-cp", str(konlpy_jar()), "-d", classes, *map(str, sources())],
            check=True,
        )
        image = Path(classes) / "korlm" / "kkma" / "dictionary.bin"
        java = str(Path(javac).with_name("java"))
        classpath = os.pathsep.join([classes, str(konlpy_jar())])
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
            # A line of a manifest has at most 72 bytes and continues on the next after a space.
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
    """Build the jar, or compare it with its sources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the jar with its sources, without building"
    )
    if not parser.parse_args().check:
        build()
    if built_digests() != (source_digest(), dictionary_digest()):
        sys.exit(
            f"{JAR} was not built from the sources in its folder and the installed konlpy: run "
            "python scripts/build_jar.py"
        )


if __name__ == "__main__":
    main()
