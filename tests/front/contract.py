"""An ASGI application that answers and then keeps its event loop: what arrives was sent without it."""

import os
import threading
import time
from pathlib import Path

# The loop is kept until this file is there, and for so many seconds at most.
RELEASED, LONGEST = "CONTRACT_RELEASED", 30
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


def answer(send) -> None:
    send(START)
    send(BODY)


def keep() -> None:
    file, end = Path(os.environ[RELEASED]), time.monotonic() + LONGEST
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["path"] == "/in-the-loop":
        answer(send)
        keep()
    elif scope["path"] == "/in-a-thread":
        threading.Thread(target=answer, args=[send]).start()
        keep()
    elif scope["path"] == "/scope":
        headers = b"; ".join(sorted(b"=".join(pair) for pair in scope["headers"] if pair[0].startswith(b"x")))
        body = b" ".join([scope["raw_path"], scope["query_string"], headers])
        await send({**START, "headers": []})
        await send({**BODY, "body": body})
    else:
        answer(send)
