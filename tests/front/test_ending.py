"""A web server that is asked to end: what is complete is answered, and nothing else is waited for."""

import json
import signal
import threading
import time

import pytest
import requests

from ..support.raw import Raw
from .conftest import logged

BEHIND = "tests.front.application:application"
# Below every limit of these servers, and above what a loaded machine needs to end one.
SOON = 20
LONG = {"WEB_BODY_IDLE_SECONDS": "60", "WEB_BODY_SECONDS": "120", "WEB_HEADER_SECONDS": "60"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_unfinished_requests_do_not_hold_up_the_end(serve_other, number):
    web = serve_other(application=BEHIND, **LONG)
    bodies = [Raw(web.url).head("POST", "/echo", "Content-Length: 1000").send(b"x") for _ in range(50)]
    halves = [Raw(web.url).send(b"GET /echo HTTP/1.1\r\nHost: x\r\n") for _ in range(20)]
    idle = [Raw(web.url) for _ in range(5)]
    used = Raw(web.url).head("GET", "/readyz")
    assert used.read().status == 200
    answers = []
    asked = threading.Thread(
        target=lambda: answers.append(requests.get(f"{web.url}/in/slow?4", timeout=60).status_code)
    )
    drained = Raw(web.url).head("POST", "/echo", "Content-Length: 200000000").send(b"x" * 1000)
    assert drained.read("POST").status == 413
    asked.start()
    time.sleep(1)
    began = time.monotonic()
    web.process.send_signal(number)
    assert web.process.wait(60) == 0
    assert time.monotonic() - began < SOON
    asked.join()
    assert answers == [200], "it was complete"
    for one in bodies:
        found = one.read("POST")
        assert (found.status, found.headers["retry-after"]) == (503, "2")
        assert json.loads(found.body)["detail"].startswith("The server is shutting down")
    for one in [*bodies, *halves, *idle, used, drained]:
        one.end(within=5)
        one.socket.close()
    assert "Traceback" not in logged(web)


def test_a_body_that_is_still_coming_may_be_completed(serve_other):
    web = serve_other(application=BEHIND, **LONG)
    one = Raw(web.url).head("POST", "/echo", "Content-Length: 4").send(b"12")
    time.sleep(0.5)
    web.process.terminate()
    time.sleep(0.2)
    assert one.send(b"34").read("POST").body == b"POST 1234"
    assert web.process.wait(SOON) == 0
