"""Answers: whole, in pieces and from files; readers that do not read; and threads that all are busy."""

import json
import re
import threading
import time
from contextlib import suppress

import pytest
import requests

from ..support.raw import Raw
from ..support.receiver import until
from .conftest import logged

BEHIND = "tests.front.application:application"


@pytest.fixture
def web(serve_other):
    return behind(serve_other, WEB_THREADS="2")


def behind(serve_other, **changes):
    """Return a server of the application that is made for these tests; it forgets what it has closed."""
    found = serve_other(application=BEHIND, **changes)
    assert get(found, "/forget").ok
    return found


def get(web, path: str, **options) -> requests.Response:
    return requests.get(web.url + path, timeout=30, **options)


def closed(web) -> tuple[int, bool]:
    count, in_its_thread = get(web, "/closed").text.split()
    return int(count), in_its_thread == "True"


def test_every_kind_of_answer_arrives_and_is_closed_in_its_thread(web):
    assert get(web, "/written").content == b"by write, and returned"
    replaced = get(web, "/replaced")
    assert (replaced.status_code, replaced.content) == (500, b"replaced")
    assert (get(web, "/none").status_code, get(web, "/none").content) == (204, b"")
    many = get(web, "/many")
    assert (len(many.content), many.headers["Transfer-Encoding"]) == (2000 * 65536, "chunked")
    assert len(get(web, "/large").content) == 20_000_000
    file = get(web, "/file")
    assert (len(file.content), file.content[:3]) == (19_999_980, b"012")
    head = requests.head(f"{web.url}/large", timeout=30)
    assert (head.headers["Content-Length"], head.content) == ("20000000", b"")
    assert closed(web) == (7, True)


@pytest.mark.parametrize("path", ["/raises", "/silent"])
def test_an_application_that_fails_is_answered_for(web, path):
    answer = get(web, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert "RuntimeError" in logged(web)
    assert get(web, "/readyz").ok


def test_an_answer_that_fails_midway_is_cut_and_never_looks_whole(web):
    with pytest.raises(requests.RequestException):
        assert get(web, "/broken").content
    assert closed(web) == (1, True)


def test_connections_go_on_after_an_answer(web):
    with Raw(web.url) as one:
        for n in range(3):
            one.head("POST", "/echo", "Content-Length: 2").send(b"%02d" % n)
            assert one.read("POST").body == b"POST %02d" % n
        one.head("GET", "/file")
        assert len(one.read().body) == 19_999_980
        assert one.head("GET", "/readyz").read().body == b"ok"


def test_requests_sent_ahead_are_answered_in_their_order(web):
    with Raw(web.url) as one:
        for n in range(5):
            one.head("POST", "/echo", "Content-Length: 1").send(b"%d" % n)
        whole = b""
        while len(re.findall(rb"POST \d", whole)) < 5:
            whole += one.socket.recv(65536)
        assert re.findall(rb"POST (\d)", whole) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("path", ["/many", "/large", "/file"])
def test_who_does_not_read_holds_no_thread_for_long_and_is_cut_off(serve_other, path):
    web = behind(serve_other, WEB_THREADS="4")
    connections = [Raw(web.url, receive_buffer=4096) for _ in range(4)]
    for one in connections:
        one.head("GET", path)
    began = time.monotonic()
    until(lambda: get(web, "/readyz").ok, what="a thread", within=20)
    assert time.monotonic() - began < 20
    until(lambda: closed(web) == (4, True) or path == "/file", what="the end of all four", within=30)
    time.sleep(2)
    for one in connections:
        size, data = 0, b"x"
        while data:
            try:
                data = one.socket.recv(65536)
            except ConnectionResetError:
                break
            size += len(data)
        assert size < 19_000_000, "cut off"
        one.socket.close()


def test_the_end_of_an_answer_waits_no_longer_for_its_reader_than_the_rest(serve_other):
    """Whatever fits into the buffers on the way, one of these has all of its pieces taken, and not its end."""
    web = behind(serve_other, WEB_THREADS="70")
    connections = [Raw(web.url, receive_buffer=4096) for _ in range(60)]
    for number, one in enumerate(connections):
        one.head("GET", f"/counted?{number + 1}")
    began = time.monotonic()
    while closed(web)[0] < len(connections) and time.monotonic() - began < 60:
        for one in connections:  # so little that the kernel goes on to wait for it
            with suppress(OSError):
                one.socket.recv(1000)
        time.sleep(0.2)
    for one in connections:
        one.socket.close()
    assert closed(web) == (len(connections), True)


def ask(web, path: str, answers: list) -> threading.Thread:
    def run() -> None:
        began = time.monotonic()
        answer = get(web, path)
        answers.append((answer.status_code, time.monotonic() - began, answer))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_who_waits_for_stuck_threads_is_told_soon_and_health_goes_on(web):
    answers = []
    threads = [ask(web, "/in/slow?6", []) for _ in range(2)]
    time.sleep(1.5)
    threads += [ask(web, "/readyz", answers) for _ in range(3)]
    assert get(web, "/healthz").status_code == 200
    until(lambda: len(answers) == 3, what="the refusals", within=20)
    for status, _, answer in answers:
        assert (status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.json()["status"] == 503
    for one in threads:
        one.join()
    assert get(web, "/readyz").ok


def test_the_console_is_refused_by_a_page(serve_other):
    web = behind(serve_other, WEB_THREADS="1", WEB_QUEUE_LENGTH="2")
    answers = []
    threads = [ask(web, "/admin/slow?5", answers) for _ in range(8)]
    until(lambda: answers, what="a refusal, which says that the queue is full", within=20)
    assert answers[0][0] == 503
    answer = get(web, "/admin/slow")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (503, "text/html")
    assert "Too many requests are waiting" in answer.text
    assert answer.headers["Retry-After"] == "2"
    for one in threads:
        one.join()


def test_the_console_never_takes_the_last_thread(web):
    threads = [ask(web, "/admin/slow?3", []) for _ in range(4)]
    time.sleep(0.5)
    assert get(web, "/in/echo").ok
    for one in threads:
        one.join()


def test_more_than_the_queue_holds_are_refused_at_once(serve_other):
    web = behind(serve_other, WEB_THREADS="1", WEB_QUEUE_LENGTH="2")
    answers = []
    threads = [ask(web, "/in/slow?3", answers) for _ in range(1)]
    time.sleep(0.5)
    threads += [ask(web, "/in/slow?0.1", answers) for _ in range(6)]
    until(lambda: sum(status == 503 for status, _, _ in answers) >= 4, what="the refusals", within=20)
    for one in threads:
        one.join()


def test_who_leaves_while_it_waits_takes_no_thread(serve_other):
    web = behind(serve_other, WEB_THREADS="1", WEB_QUEUE_SECONDS="30")
    threads = [ask(web, "/admin/slow?4", [])]
    time.sleep(0.3)
    connections = [Raw(web.url).head("GET", "/admin/slow?20") for _ in range(5)]
    time.sleep(1)
    for one in connections:
        one.socket.close()
    began = time.monotonic()
    assert get(web, "/admin/slow?0.1").ok
    assert time.monotonic() - began < 18, "nobody waited for who had left"
    for one in threads:
        one.join()


def test_the_access_log_has_refusals_and_what_needs_no_thread(serve_other):
    web = behind(serve_other, LOGS="yes", LOG_FORMAT="json")
    get(web, "/healthz")
    with Raw(web.url) as one:
        one.head("POST", "/echo", "Content-Length: 9999999999", "X-Request-Id: mine").read("POST")
    lines = [json.loads(line) for line in logged(web).splitlines() if '"request"' in line]
    found = {(line["path"], line["status"]) for line in lines}
    assert {("/healthz", 200), ("/echo", 413)} <= found
    assert next(line for line in lines if line["status"] == 413)["request_id"] == "mine"
