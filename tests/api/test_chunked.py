"""Bodies that come in chunks, by a real server: read like any other, and never taken for none."""

import json
from collections.abc import Iterator

import pytest
import requests

from reliability.core import clock
from reliability.dead_letters import create
from reliability.models import DeadLetter, Delivery

from ..support.web import Web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def send(key, tmp_path):
    web = Web(tmp_path, MAX_BODY_BYTES="4096")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key()}"

    def post(path: str, body: bytes) -> requests.Response:
        def pieces() -> Iterator[bytes]:
            yield from (body[at : at + 1000] for at in range(0, len(body), 1000))

        return session.post(f"{web.url}/api/v1/{path}", data=pieces(), timeout=10)

    yield post
    web.end()


def test_they_are_read(send, workflow):
    workflow()
    letter = create.from_api(report=create.Report("echo", "default", '{"n": 1}', "boom"), now=clock.now())
    answer = send(f"dead-letters/{letter.pk}/replay/", json.dumps({"payload": {"n": 2}}).encode())
    assert answer.status_code == 202
    assert Delivery.objects.get().document == {"n": 2}
    assert DeadLetter.objects.get().status == "replaying"
    assert (
        send("deliveries/", json.dumps({"workflow": "echo", "payload": {"a": "b" * 3000}}).encode()).status_code == 201
    )
    large = send("deliveries/", json.dumps({"workflow": "echo", "payload": {"a": "b" * 5000}}).encode())
    assert (large.status_code, large.headers["Content-Type"]) == (413, "application/problem+json")
