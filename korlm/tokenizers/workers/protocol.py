"""Send messages between the pool of tokenizer processes and its workers."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import struct
import typing
from typing import IO, Any

from korlm.config import WorkerConfig

Message = dict[str, Any]

ALIVE_SECONDS = 1.0  # time between two messages that show that a worker is alive

HEAD = struct.Struct("<II")  # the two lengths: of the message and of the data


def send(stream: IO[bytes], message: Message, data: bytes = b"") -> None:
    """Write a frame: the two lengths, a JSON message, data."""
    send_frame(stream, json.dumps(message).encode("ascii"), data)


def send_frame(stream: IO[bytes], head: bytes, data: bytes) -> None:
    """Write a frame with any bytes as its message: the two lengths, ``head``, data."""
    stream.write(HEAD.pack(len(head), len(data)) + head + data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Message, bytes] | None:
    """Read a frame, and return its message and data; None at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    sizes = HEAD.unpack(head)
    body = stream.read(sum(sizes))
    if len(body) < sum(sizes):
        return None
    message: Message = json.loads(body[: sizes[0]])
    return message, body[sizes[0] :]


def config_to_json(config: WorkerConfig) -> str:
    """Return settings as JSON, for the command line of a worker."""
    kind = type(config)
    values = dataclasses.asdict(config)
    return json.dumps([kind.__module__, kind.__name__, values], default=lambda member: member.value)


def config_from_json(text: str) -> WorkerConfig:
    """Return the settings that ``config_to_json`` has encoded."""
    module, name, values = json.loads(text)
    kind = getattr(importlib.import_module(module), name)  # importing it registers the tokenizer
    for key, hint in typing.get_type_hints(kind).items():
        if isinstance(hint, enum.EnumMeta):
            values[key] = hint(values[key])
    return typing.cast(WorkerConfig, kind(**values))
