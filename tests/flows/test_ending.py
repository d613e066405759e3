"""A web server that is asked to end, with a request in hand. For a worker, see `test_several_workers`."""

import threading
import time

import pytest
import requests
from django.db import connection, transaction

from reliability.models import Delivery, Lane

from ..support.receiver import until
from ..support.web import Web

pytestmark = pytest.mark.django_db(transaction=True)
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


def waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        return cursor.fetchone()[0] == 1


def test_a_web_server_that_is_asked_to_end_answers_what_it_has_in_hand(workflow, accept, key, tmp_path):
    workflow(paused=True)
    accept({"n": 0})  # opens the lane
    web, answers = Web(tmp_path), []
    url, headers = f"{web.url}/api/v1/deliveries/", {"Authorization": f"Bearer {key()}"}
    body = {"workflow": "echo", "payload": {"n": 1}}
    ask = threading.Thread(
        target=lambda: answers.append(requests.post(url, json=body, headers=headers, timeout=30).status_code)
    )
    with transaction.atomic():
        Lane.objects.select_for_update().get()  # intake waits for it
        ask.start()
        until(waiting, what="the request to be under way")
        web.process.terminate()
        time.sleep(1)
        with pytest.raises(requests.RequestException):
            requests.get(f"{web.url}/healthz", timeout=5)
        assert not answers
    ask.join(30)
    assert web.process.wait(30) == 0
    assert answers == [201]
    assert Delivery.objects.count() == 2
