"""Create .venv on first use, and update it when pyproject.toml or constraints.txt change.

Needs only Python's standard library. A stamp file in .venv holds a hash of the two files, the
version of Python and KORLM_TORCH: while it matches, a call takes a few milliseconds. An interrupted
set-up leaves no stamp and is repeated by the next call.

KORLM_TORCH=cpu, cuda or the URL of a package index selects the build of torch. Without it, Linux
machines without NVIDIA driver get the CPU build, which is several gigabytes smaller.
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
# Paths that exist on Linux if an NVIDIA driver is loaded; the last one is the virtual GPU of WSL.
NVIDIA = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")


def venv_python() -> Path:
    """Return the path of the interpreter in .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(extra: str) -> str:
    """Return a hash of everything that determines the installed packages."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    settings = (sys.version_info[:2], extra, os.environ.get("KORLM_TORCH", ""), str(ROOT))
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def stop(message: str) -> None:
    """Print one line and exit with code 1."""
    sys.stderr.write(f"korlm set-up: {message}\n")
    raise SystemExit(1)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock: two set-ups of the same checkout run one after the other."""
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
    """Return the pip command that installs into .venv, pinned by constraints.txt."""
    command = [str(venv_python()), "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    return [*command, *arguments]


def pip(*arguments: str) -> None:
    """Install into .venv; exit with code 1 if pip fails."""
    if subprocess.run(pip_install(*arguments), check=False).returncode != 0:
        stop("pip install failed (see its message above); fix the cause and run the command again")


def has_nvidia_driver() -> bool:
    """Return whether an NVIDIA driver is loaded, or available in WSL."""
    return any(Path(path).exists() for path in NVIDIA)


def install_torch() -> None:
    """Install the build of torch that KORLM_TORCH selects; by default the CPU build without a GPU.

    If the CPU build cannot be downloaded, torch is left to the installation of korlm, which takes
    the build of the default index.
    """
    build = os.environ.get("KORLM_TORCH", "")
    if build:
        stamp = VENV / ".korlm-torch"
        if not stamp.exists() or stamp.read_text() != build:
            # pip would keep another build of the same version.
            pip("--force-reinstall", "torch", "--index-url", TORCH_INDEXES.get(build, build))
            stamp.write_text(build)
    elif sys.platform == "linux" and not has_nvidia_driver():
        # An installed torch is kept. The dependencies of torch come from the default index.
        command = pip_install("torch", "--no-deps", "--index-url", TORCH_INDEXES["cpu"])
        command += ["--retries", "1", "--timeout", "10"]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            host = TORCH_INDEXES["cpu"].split("/")[2]
            sys.stderr.write(
                f"korlm set-up: cannot fetch the CPU build of torch from {host}; taking the "
                "default build, which may be several gigabytes larger\n"
            )


def install(extra: str) -> None:
    """Create .venv if it is missing or has another Python version; install korlm as editable."""
    import venv

    config = VENV / "pyvenv.cfg"
    version = ".".join(map(str, sys.version_info[:2]))
    fresh = not venv_python().exists() or f"version = {version}." not in config.read_text()
    if fresh:
        try:
            venv.create(VENV, clear=VENV.exists(), with_pip=True, symlinks=os.name != "nt")
        except subprocess.CalledProcessError:
            stop("this Python has no ensurepip: on Debian and Ubuntu: apt-get install python3-venv")
    install_torch()
    pip("-e", f"{ROOT}[{extra}]" if extra else str(ROOT))


def ready(extra: str = "") -> Path:
    """Set up .venv with korlm and an extra if necessary; return the path of its interpreter."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        version = ".".join(map(str, sys.version_info[:3]))
        stop(
            f"Python {version} is not supported, korlm needs 3.10 to 3.13: for example "
            "python3.12 scripts/train"
        )
    stamp = VENV / f".korlm-{extra or 'base'}"
    expected = fingerprint(extra)

    def is_done() -> bool:
        return stamp.exists() and stamp.read_text() == expected and venv_python().exists()

    if not is_done():
        with one_at_a_time():
            if not is_done():
                started = time.monotonic()
                sys.stderr.write("korlm set-up: creating .venv (once; about a minute) ...\n")
                install(extra)
                stamp.write_text(expected)
                seconds = time.monotonic() - started
                sys.stderr.write(f"korlm set-up: .venv is ready after {seconds:.0f} s\n")
    return venv_python()


def run(*arguments: str) -> int:
    """Run .venv's Python in the current folder; signals and exit code are passed on."""
    command = [str(venv_python()), *arguments]
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(command[0], command)
    return subprocess.call(command)
