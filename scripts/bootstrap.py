"""Makes .venv on first use and again whenever pyproject.toml or constraints.txt change.

Needs nothing but Python's standard library. The work of one set-up is keyed by a hash of the two
files, the Python version and KORLM_TORCH, kept in a stamp inside .venv: with the stamp there a call
costs a few milliseconds, and an interrupted set-up leaves no stamp and is simply done again.

KORLM_TORCH=cpu, cuda or the URL of a package index selects the build of torch. Without it, Linux
machines that have no NVIDIA driver take the CPU build, which is smaller by gigabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST, NEWEST = (3, 10), (3, 13)
TORCH_INDEXES = {
    "cpu": "https://download.pytorch.org/whl/cpu",
    "cuda": "https://download.pytorch.org/whl/cu130",
}
# What Linux shows of an NVIDIA driver; the last one is the virtual GPU of WSL.
NVIDIA = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")


def venv_python() -> Path:
    """The interpreter inside .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(extra: str) -> str:
    """A hash of everything that decides what must be installed."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    settings = (sys.version_info[:2], extra, os.environ.get("KORLM_TORCH", ""), str(ROOT))
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def stop(message: str) -> None:
    """Ends the set-up with one line and exit code 1."""
    sys.stderr.write(f"korlm set-up: {message}\n")
    raise SystemExit(1)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Lets a second set-up of the same checkout wait for the first."""
    lock = open(ROOT / ".venv.lock", "a+")  # noqa: SIM115 - closed below, after unlocking
    try:
        if sys.platform == "win32":
            import msvcrt

            lock.seek(0)
            while True:
                with contextlib.suppress(OSError):
                    msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        lock.close()


def pip_install(*arguments: str) -> list[str]:
    """Return the command that installs something into .venv, pinned by constraints.txt."""
    command = [str(venv_python()), "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    return [*command, *arguments]


def pip(*arguments: str) -> None:
    """Run pip inside .venv; a failure ends the set-up with what to do."""
    if subprocess.run(pip_install(*arguments), check=False).returncode != 0:
        stop("pip could not install (its message is above); mend that and run the same again")


def has_nvidia_driver() -> bool:
    """Return whether an NVIDIA driver is loaded, or WSL passes one on."""
    return any(Path(path).exists() for path in NVIDIA)


def install_torch() -> None:
    """Install the build of torch that KORLM_TORCH names, or else the CPU build where it is enough.

    Where the CPU build cannot be fetched, what follows takes the build of the default index.
    """
    build = os.environ.get("KORLM_TORCH", "")
    if build:
        taken = VENV / ".korlm-torch"
        if not taken.exists() or taken.read_text() != build:
            # Another build of the same version counts as installed already.
            pip("--force-reinstall", "torch", "--index-url", TORCH_INDEXES.get(build, build))
            taken.write_text(build)
    elif sys.platform == "linux" and not has_nvidia_driver():
        # A torch that is there already is kept. What torch needs comes from the default index.
        command = pip_install("torch", "--no-deps", "--index-url", TORCH_INDEXES["cpu"])
        command += ["--retries", "1", "--timeout", "10"]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            host = TORCH_INDEXES["cpu"].split("/")[2]
            sys.stderr.write(
                f"korlm set-up: cannot fetch the CPU build of torch from {host}; taking the "
                "default build, which may be larger by gigabytes\n"
            )


def install(extra: str) -> None:
    """Creates .venv if it is missing or of another Python, then installs korlm in editable form."""
    import venv

    config = VENV / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:2]))
    fresh = not venv_python().exists() or f"version = {version}." not in config.read_text()
    if fresh:
        try:
            venv.create(VENV, clear=VENV.exists(), with_pip=True, symlinks=os.name != "nt")
        except subprocess.CalledProcessError:
            stop("this Python has no ensurepip; on Debian and Ubuntu: apt-get install python3-venv")
    install_torch()
    pip("-e", f"{ROOT}[{extra}]" if extra else str(ROOT))


def ready(extra: str = "") -> Path:
    """Makes sure that .venv holds korlm with the given extra; gives its interpreter."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:3]))
        stop(f"Python {found} does not fit, korlm needs 3.10 to 3.13: python3.12 scripts/train ...")
    stamp = VENV / f".korlm-{extra or 'base'}"
    wanted = fingerprint(extra)

    def is_done() -> bool:
        return stamp.exists() and stamp.read_text() == wanted and venv_python().exists()

    if not is_done():
        with one_at_a_time():
            if not is_done():
                started = time.monotonic()
                sys.stderr.write("korlm set-up: making .venv (once; about a minute) ...\n")
                install(extra)
                stamp.write_text(wanted)
                seconds = time.monotonic() - started
                sys.stderr.write(f"korlm set-up: .venv is ready after {seconds:.0f} s\n")
    return venv_python()


def run(*arguments: str) -> int:
    """Runs a command of .venv's Python in the caller's folder, signals and exit code passed on."""
    command = [str(venv_python()), *arguments]
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(command[0], command)
    return subprocess.call(command)
