"""Bodies that come slowly, not at all, or too large: none of them takes a thread, and each ends by its limit."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import requests

from ..support.raw import Raw
from .conftest import logged, refused

SECRET = {"Authorization": "Bearer a-cron-secret"}
CHUNKED = "Transfer-Encoding: chunked"
UNFINISHED = {
    "chunked, on a path that is not there": ("/nowhere/", (CHUNKED,), b"5\r\nhello\r\n"),
    "by length, on Stripe's path": ("/stripe/webhook/", ("Content-Length: 1000",), b"{"),
    "by length, with a made-up key": ("/api/v1/deliveries/", ("Content-Length: 1000", "X-API-Key: bs_x"), b"{"),
    "held until it is asked for": ("/api/v1/deliveries/", ("Content-Length: 1000", "Expect: 100-continue"), b""),
}


def test_unfinished_bodies_take_no_thread_and_end_by_their_limit(serve, key, workflow):
    workflow(paused=True)
    web = serve(WEB_THREADS="1", WEB_BODY_IDLE_SECONDS="5", WEB_BODY_SECONDS="20")
    bearer = {"Authorization": f"Bearer {key()}"}
    connections = [(Raw(web.url), kind) for kind in UNFINISHED for _ in range(12)]
    for one, kind in connections:
        path, headers, begun = UNFINISHED[kind]
        one.head("POST", path, *headers).send(begun)
    time.sleep(0.2)
    began = time.monotonic()
    assert requests.get(f"{web.url}/healthz", timeout=4).status_code == 200
    assert requests.get(f"{web.url}/cron/weekly-recap/", headers=SECRET, timeout=4).status_code == 200
    body = {"workflow": "echo", "payload": {"n": 1}}
    assert requests.post(f"{web.url}/api/v1/deliveries/", json=body, headers=bearer, timeout=4).status_code == 201
    assert time.monotonic() - began < 4, "they were answered while the others were held"
    for one, kind in connections:
        if "Expect" in str(UNFINISHED[kind]):
            assert one.socket.recv(25).startswith(b"HTTP/1.1 100"), kind
        answer = one.read("POST")
        assert answer.status == 408, kind
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == json.loads(answer.body)["request_id"]
        one.end(within=10)
        one.socket.close()
    assert refused(web, "body_idle") == len(connections)


def test_a_body_that_trickles_ends_by_its_whole_time(serve):
    web = serve()
    with Raw(web.url).head("POST", "/api/v1/deliveries/", "Content-Length: 1000") as one:
        began = time.monotonic()
        one.socket.settimeout(0.3)
        data = b""
        while not data:
            one.send(b"x")
            try:
                data = one.socket.recv(4096)
            except TimeoutError:
                assert time.monotonic() - began < 30
        assert data.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began > 2
    assert refused(web, "body_slow") == 1


def test_a_body_in_chunks_is_read_on_every_path(serve, key, workflow):
    workflow(paused=True)
    web = serve()
    body = json.dumps({"workflow": "echo", "payload": {"n": 1}}).encode()
    with Raw(web.url) as one:
        one.head("POST", "/api/v1/deliveries/", CHUNKED, f"Authorization: Bearer {key()}")
        for at in range(0, len(body), 7):
            piece = body[at : at + 7]
            one.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        assert one.send(b"0\r\n\r\n").read("POST").status == 201
        one.head("POST", "/nowhere/", CHUNKED).send(b"3\r\nabc\r\n0\r\n\r\n")
        assert one.read("POST").status == 404, "the connection goes on"


@pytest.mark.parametrize(
    ("path", "limit"), [("/api/v1/deliveries/", 1048576), ("/stripe/webhook/", 65536), ("/nowhere/", 1048576)]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
def test_one_byte_too_many_is_a_413(serve, path, limit, chunked):
    web = serve()
    at_the_limit = requests.post(web.url + path, data=b" " * limit, timeout=30)
    assert at_the_limit.status_code in (400, 401, 404), at_the_limit.text + logged(web)
    body = b" " * (limit + 1)
    answer = requests.post(web.url + path, data=iter([body]) if chunked else body, timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert answer.json()["status"] == 413
    assert requests.get(f"{web.url}/healthz", timeout=5).ok


@pytest.mark.parametrize("path", ["/api/v1/deliveries/", "/stripe/webhook/"])
def test_urllib_reads_the_413_of_a_body_far_too_large(serve, path):
    web = serve()
    request = urllib.request.Request(web.url + path, data=b" " * 30_000_000, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 413
    assert json.loads(caught.value.read())["status"] == 413


NODE = """
const http = require("http");
const [url, size] = process.argv.slice(1);
const body = Buffer.alloc(Number(size), " ");
const request = http.request(url, {method: "POST", headers: {"Content-Length": body.length}}, answer => {
  let text = "";
  answer.on("data", piece => text += piece);
  answer.on("end", () => console.log(answer.statusCode, JSON.parse(text).status));
});
request.on("error", error => { console.log("error", error.code); process.exitCode = 1; });
request.end(body);
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node is not here: axios stands on its http module")
@pytest.mark.parametrize("path", ["/api/v1/deliveries/", "/stripe/webhook/"])
def test_node_reads_the_413_of_a_body_far_too_large(serve, path):
    web = serve()
    done = subprocess.run(
        ["node", "-e", NODE, web.url + path, "30000000"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["413", "413"], done.stdout + done.stderr


def test_who_asks_before_sending_is_told_at_once_that_it_is_too_large(serve):
    web = serve()
    with Raw(web.url) as one:
        one.head("POST", "/api/v1/deliveries/", "Content-Length: 99999999", "Expect: 100-continue")
        assert one.read("POST").status == 413


def test_a_refused_event_of_stripe_is_on_record(serve):
    from reliability.models import StripeRefusal

    web = serve()
    assert requests.post(f"{web.url}/stripe/webhook/", data=b" " * 70_000, timeout=30).status_code == 413
    assert StripeRefusal.objects.count() == 1


def test_large_bodies_that_wait_give_way_to_small_ones(serve, key, workflow):
    workflow(paused=True)
    web = serve(WEB_BODY_IDLE_SECONDS="20", WEB_BODY_SECONDS="60")
    bearer = {"Authorization": f"Bearer {key()}"}
    connections = [Raw(web.url) for _ in range(8)]
    for one in connections:
        one.head("POST", "/nowhere/", f"Content-Length: {1048576}").send(b"x" * 1048575)
    body = {"workflow": "echo", "payload": {"n": "x" * 100_000}}
    for _ in range(3):
        answer = requests.post(f"{web.url}/api/v1/deliveries/", json=body, headers=bearer, timeout=10)
        assert answer.status_code == 201
    assert refused(web, "buffer_full") >= 4
    told = 0
    for one in connections:
        one.socket.settimeout(0.5)
        try:
            answer = one.read("POST")
        except TimeoutError:
            continue
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        told += 1
    assert told >= 4
    for one in connections:
        one.socket.close()


def test_who_leaves_amid_a_body_harms_nobody(serve):
    web = serve()
    for _ in range(20):
        with Raw(web.url) as one:
            one.head("POST", "/api/v1/deliveries/", "Content-Length: 1000").send(b"{")
    assert requests.get(f"{web.url}/healthz", timeout=5).ok
    assert refused(web, "body_broken") == 20
    assert "Traceback" not in logged(web)


def test_half_sent_headers_and_idle_connections_end_by_their_limit(serve):
    web = serve()
    half, idle, used = Raw(web.url), Raw(web.url), Raw(web.url)
    half.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ")
    used.head("GET", "/healthz").read()
    for one in (half, idle, used):
        assert one.end(within=20) < 15
