"""The API of bulk operations: a canary and a limit, listed, held in hand, undone; each tenant its own."""

import json
from datetime import timedelta

import pytest
from django.test import Client

from reliability.bulk import steps
from reliability.core import clock
from reliability.lanes import opening
from reliability.models import AuditEntry, DeadLetter, Delivery, Operation

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/batches/"


@pytest.fixture
def letters(workflow):
    made = workflow("echo", paused=True)

    def make(count: int = 3, *, tenant: str = "default", **values) -> list[DeadLetter]:
        lane, now = opening.open_lane(workflow_id=made.pk, tenant=tenant), clock.now()
        moments = {"created_at": now, "died_at": now, "expires_at": now + timedelta(days=1)}
        plain = {"source": "api", "error_code": "http_500", "reason": "http_5xx"}
        return DeadLetter.objects.bulk_create(
            DeadLetter(lane=lane, payload=f'{{"n": {n}}}', **{**plain, **moments, **values}) for n in range(count)
        )

    return make


def post(client, path, body=None):
    return client.post(path, json.dumps(body or {}), content_type="application/json")


def work(pk) -> None:
    now = clock.now()
    while (now := steps.step(operation_id=pk, now=now)) is not None:
        pass


@pytest.fixture
def batch(letters, api):
    letters(40)
    body = {"filter": {"error_code": "http_500"}, "rate_per_second": 5, "stop_failure_rate": 0.2, "reason": "vendor"}
    return post(api, "/api/v1/dead-letters/replay/", body).json()["batch_id"]


def test_a_batchs_shape(batch, api):
    steps.step(operation_id=batch, now=clock.now())
    one, two = Delivery.objects.order_by("id")[:2]
    Delivery.objects.filter(pk=one.pk).update(state="delivered")
    Delivery.objects.filter(pk=two.pk).update(state="dead")
    shape = api.get(f"{URL}{batch}/").json()
    assert shape.pop("created_at")
    assert shape.pop("cutoff")
    assert shape.pop("actor").startswith("key:")
    assert shape == {
        "batch_id": batch,
        "kind": "replay",
        "state": "running",
        "filter": {"error_code": "http_500"},
        "count": 40,
        "done": 5,
        "skipped": 0,
        "skipped_by": {},
        "recovered": 1,
        "failed": 1,
        "withdrawn": 0,
        "under_way": 3,
        "rate_per_second": 5.0,
        "canary": False,
        "stop_failure_rate": 0.2,
        "note": "",
        "reason": "vendor",
        "finished_at": None,
    }


def test_the_hand_on_a_batch(batch, api):
    def press(verb, **body):
        answer = post(api, f"{URL}{batch}/{verb}/", {"reason": "because", **body})
        return answer.status_code, answer.json().get("state")

    assert press("pause") == (200, "paused")
    assert press("pause")[0] == 409
    assert press("rate", rate_per_second=50) == (200, "paused")
    assert press("rate", rate_per_second=0)[0] == 400
    assert press("rate")[0] == 400
    assert press("resume") == (200, "running")
    assert press("cancel") == (200, "cancelled")
    assert press("resume")[0] == 409
    assert press("undo")[0] == 409
    assert press("pause", nonsense=1)[0] == 400
    assert Operation.objects.get().rate_per_second == 50
    assert set(AuditEntry.objects.exclude(action="bulk_replay").values_list("reason", flat=True)) == {"because"}
    assert post(api, f"{URL}01890a5d-ac96-774b-bcce-b302099a8057/pause/").status_code == 404


def test_a_canary_by_the_api(letters, api):
    letters(5)
    pk = post(api, "/api/v1/dead-letters/replay/", {"filter": {}, "canary": True}).json()["batch_id"]
    work(pk)
    assert api.get(f"{URL}{pk}/").json()["done"] == 1


def test_the_list_is_newest_first_and_filtered(batch, api):
    post(api, "/api/v1/dead-letters/purge/", {"filter": {"error_code": "none"}})
    kinds = [one["kind"] for one in api.get(URL).json()["results"]]
    assert kinds == ["purge", "replay"]
    assert len(api.get(f"{URL}?kind=purge&state=running").json()["results"]) == 1
    assert api.get(f"{URL}?state=paused").json()["results"] == []
    for query in ("kind=x", "nonsense=1", "page_size=0", "cursor=x"):
        assert api.get(f"{URL}?{query}").status_code == 400


def test_a_tenants_key_reaches_its_own_batches_alone(letters, api, key, batch):
    letters(2, tenant="acme")
    acme = Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"})
    made = post(acme, "/api/v1/dead-letters/purge/", {"filter": {}})
    assert (made.status_code, made.json()["count"]) == (202, 2)
    own = made.json()["batch_id"]
    assert [one["batch_id"] for one in acme.get(URL).json()["results"]] == [own]
    for path in (batch + "/", f"{batch}/pause/", f"{batch}/cancel/", f"{batch}/rate/", f"{batch}/undo/"):
        answer = acme.get(URL + path) if path.endswith(batch + "/") else post(acme, URL + path, {"rate_per_second": 1}
            if "rate" in path else {})  # fmt: skip
        assert answer.status_code == 404, path
    work(own)
    undo = post(acme, f"{URL}{own}/undo/", {"reason": "ours"})
    assert (undo.status_code, undo.json()["count"]) == (202, 2)
    assert len(acme.get(URL).json()["results"]) == 2
    work(undo.json()["batch_id"])
    assert DeadLetter.objects.filter(lane__tenant="acme", status="dead").count() == 2
    assert Operation.objects.get(pk=batch).state == "running"


def test_scopes(batch, key):
    reader = Client(headers={"Authorization": f"Bearer {key(scopes=['read', 'deliver', 'report'])}"})
    assert reader.get(URL).status_code == 403
    assert post(reader, f"{URL}{batch}/cancel/").status_code == 403
    assert Client().get(URL).status_code == 401


def test_one_purge_is_undone(letters, api, key):
    letter = letters(1)[0]
    where = f"/api/v1/dead-letters/{letter.pk}/"
    assert post(api, f"{where}undo-purge/").status_code == 409
    api.delete(where)
    stranger = Client(headers={"Authorization": f"Bearer {key(tenant='acme')}"})
    assert post(stranger, f"{where}undo-purge/").status_code == 404
    answer = post(api, f"{where}undo-purge/", {"reason": "a mistake"})
    assert (answer.status_code, answer.json()["status"]) == (200, "dead")
    assert AuditEntry.objects.get(action="undo_purge").reason == "a mistake"


def test_an_erased_payload_is_null(letters, api):
    letter = letters(1)[0]
    DeadLetter.objects.filter(pk=letter.pk).update(status="purged", payload="")
    assert api.get(f"/api/v1/dead-letters/{letter.pk}/").json()["payload"] is None


@pytest.mark.parametrize("body", [{"canary": "yes please"}, {"stop_failure_rate": 1.5}, {"stop_failure_rate": "x"},
    {"rate_per_second": 0.001}, {"rate_per_second": 1001}], ids=str)  # fmt: skip
def test_what_makes_no_sense_is_refused(letters, api, body):
    letters(1)
    answer = post(api, "/api/v1/dead-letters/replay/", {"filter": {}, **body})
    assert answer.status_code == 400
    assert next(iter(body)) in answer.json()["errors"]
    assert not Operation.objects.exists()
