"""Call a function on a Dask worker that may lack korlm, or have another version of it.

A Dask worker that cannot unpickle a task ends without a message. So a task consists of a function
that needs nothing of korlm, and of the pickled call, which is unpickled only where the versions
are equal. The function is pickled as the bytecode of this version of Python, which another one
cannot run: ``DaskExecutor`` compares the version of Python before.
"""

from __future__ import annotations

import pickle
import platform
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from korlm._version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")


class Answer(NamedTuple):
    """Result of a task."""

    worker: str  # address
    problem: str  # why this worker cannot run the call, to continue "the worker X"; empty: it has
    result: Any  # of the call


class UnsuitableWorkerError(Exception):
    """Something is wrong with this worker, not with the piece."""


def versions() -> dict[str, str]:
    """Return the versions that must be equal on all machines, which then write the same bytes."""
    python = ".".join(platform.python_version_tuple()[:2])  # decides the version of Unicode
    return {"korlm": __version__, "Python": python, "pyarrow": pa.__version__}


def check_function() -> Callable[[dict[str, str]], str]:
    """Return a function that compares versions of a process with the expected ones.

    It returns a message that continues "the worker X", such as "has no korlm: ..."; an empty one if
    the versions are equal. A nested function is pickled by value.
    """

    def check(expected: dict[str, str]) -> str:
        import importlib
        import platform

        problems = []
        for name, version in expected.items():
            try:
                found = (
                    ".".join(platform.python_version_tuple()[:2])
                    if name == "Python"
                    else importlib.import_module(name).__version__
                )
            except (ImportError, AttributeError):
                found = ""
            if found != version:
                problems.append(f"{name} {found}, not {version}" if found else f"no {name}")
        advice = "install the same versions where the workers run"
        return f"has {'; '.join(problems)}: {advice}" if problems else ""

    return check


def task_function() -> Callable[[dict[str, str], bytes], tuple[str, str, Any]]:
    """Return the function of all tasks, whose result has the values of ``Answer``.

    Its arguments are the expected versions and the result of ``pickle_call``.
    """
    check = check_function()

    def task(expected: dict[str, str], call: bytes) -> tuple[str, str, Any]:
        from distributed import get_worker

        address = get_worker().address
        if problem := check(expected):
            return address, problem, None
        from korlm.dataset.executors.remote_call import run_call

        return address, *run_call(call)

    return task


def pickle_call(function: Callable[[Item], Result], item: Item) -> bytes:
    """Return a call as bytes, for ``run_call``."""
    return pickle.dumps((function, item))


def run_call(call: bytes) -> tuple[str, Any]:
    """Return the problem of this worker (empty: none), and the result of a call."""
    function, item = pickle.loads(call)
    try:
        return "", function(item)
    except UnsuitableWorkerError as error:
        return str(error), None
