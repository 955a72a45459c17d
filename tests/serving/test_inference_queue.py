"""Requests that end in an unusual way leave the model to the next one."""

import asyncio
import gc

import anyio
import pytest

pytest.importorskip("fastapi", reason="serving needs it")
from starlette.responses import StreamingResponse
from starlette.types import Message

from korlm.serving.inference_queue import InferenceQueue, RequestError


async def stay_connected() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def runs_next(queue: InferenceQueue) -> bool:
    with anyio.move_on_after(10):
        return await queue.run(stay_connected, lambda: True)
    return False


def test_the_message_of_an_error_is_its_text() -> None:
    assert str(RequestError(503, "server busy", 1.0)) == "server busy"


@pytest.mark.parametrize("num_steps", range(1, 6))
def test_a_request_that_is_canceled_at_any_time_frees_the_model(num_steps: int) -> None:
    async def run() -> bool:
        queue = InferenceQueue(1)
        request = asyncio.ensure_future(queue.run(stay_connected, lambda: True))
        for _ in range(num_steps):
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        return await runs_next(queue)

    assert asyncio.run(run())


def test_a_connection_that_fails_frees_the_model() -> None:
    async def fail() -> Message:
        raise ConnectionError

    async def run() -> bool:
        queue = InferenceQueue(1)
        with pytest.raises(BaseException, match=r"unhandled errors"):
            await queue.run(fail, lambda: True)
        return await runs_next(queue)

    assert asyncio.run(run())


def test_a_stream_whose_client_leaves_without_reading_frees_the_model() -> None:
    async def run() -> bool:
        queue, is_gone = InferenceQueue(1), asyncio.Event()

        async def receive() -> Message:
            await is_gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message.get("body"):
                is_gone.set()
                await anyio.sleep_forever()

        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await StreamingResponse(queue.stream(iter(["가", "나"])))(scope, receive, send)
        gc.collect()  # closes the stream
        return await runs_next(queue)

    assert asyncio.run(run())
