"""uvicorn with one thing that it lacks: the ASGI extension Zero Copy Send, by which the kernel sends a file without our touching it.

    {"type": "http.response.zerocopysend", "file": fd, "offset": int, "count": int, "more_body": bool}

(asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send.) The outermost layer, directly under uvicorn: it announces the extension
in `scope["extensions"]`, and a handler that does not find it there sends pieces. `sendfile(2)` writes to the connection's own socket,
as soon as all that was written before has left, through a descriptor of its own, for an event loop lets nobody wait on one of its
transports. It runs in a thread, for it may wait for a disk; the loop waits for the client: a slow one holds two descriptors and no thread.

Left to others: ranges and headers (`file_answer.py`). A client that takes nothing for STALL_SECONDS is let go.
"""

import asyncio
import os
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MESSAGE: Final = "http.response.zerocopysend"
STALL_SECONDS: Final = 120.0
_PIECE_BYTES: Final = 4 << 20  # a thread is not held for longer than a disk needs for this


class ZeroCopy:
    """The layer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        cycle = getattr(send, "__self__", None)
        if scope["type"] != "http" or not isinstance(cycle, RequestResponseCycle):
            await self._app(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == MESSAGE:
                await _send(cycle, message)
            else:
                await send(message)

        scope["extensions"] = {**scope.get("extensions", {}), MESSAGE: {}}
        await self._app(scope, receive, sending)


async def _send(cycle: RequestResponseCycle, message: Any) -> None:
    """Carry out the message. Raises ConnectionError when the client is gone before the last byte was handed to the kernel."""
    count = message["count"]
    if count > cycle.expected_content_length:
        raise RuntimeError("more than the announced length")
    await _flushed(cycle)
    if cycle.disconnected:
        raise ConnectionAbortedError("the client is gone")
    try:
        await _send_file(cycle.transport, message["file"], message["offset"], count)
    except OSError as error:
        cycle.disconnected = True
        cycle.transport.abort()
        raise ConnectionAbortedError("the client is gone") from error
    cycle.expected_content_length -= count
    if not message.get("more_body", False):
        await cycle.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _flushed(cycle: RequestResponseCycle) -> None:
    """Until the transport has handed all that it holds to the kernel."""
    cycle.transport.set_write_buffer_limits(high=0)
    try:
        while cycle.transport.get_write_buffer_size() and not cycle.disconnected:
            await asyncio.wait_for(cycle.flow.drain(), STALL_SECONDS)
            await asyncio.sleep(0)
    except TimeoutError:
        cycle.transport.abort()
        raise ConnectionAbortedError("the client takes nothing") from None
    finally:
        cycle.transport.set_write_buffer_limits()


async def _send_file(transport: asyncio.Transport, file: int, offset: int, count: int) -> None:
    """Raises OSError when the client is gone or stalls, RuntimeError when the file is shorter than was promised."""
    loop = asyncio.get_running_loop()
    socket = os.dup(transport.get_extra_info("socket").fileno())
    try:
        while count:
            try:
                done = await loop.run_in_executor(
                    None, os.sendfile, socket, file, offset, min(_PIECE_BYTES, count)
                )
            except BlockingIOError:
                await asyncio.wait_for(_writable(loop, socket), STALL_SECONDS)  # TimeoutError is an OSError
                continue
            if done == 0:
                raise RuntimeError("the file is shorter than its row says: run `distd check`")
            offset += done
            count -= done
    finally:
        os.close(socket)


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)
