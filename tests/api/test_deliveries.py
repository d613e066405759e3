"""The API of deliveries."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test import Client

from reliability.models import Delivery

URL = "/api/v1/deliveries/"


@pytest.fixture
def post(api):
    def send(body, url=URL, **headers):
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        return api.post(url, data, content_type="application/json", headers=headers)

    return send


@pytest.mark.django_db
class TestAccepting:
    def test_a_new_delivery_is_answered_whole(self, workflow, post):
        workflow()
        response = post({"workflow": "echo", "payload": {"a": 1}, "idempotency_key": "k"})
        assert response.status_code == 201
        shape = response.json()
        row = Delivery.objects.get()
        assert shape.pop("id") == str(row.pk)
        assert shape.pop("due_at") == shape.pop("created_at")
        assert shape == {
            "workflow": "echo",
            "tenant": "default",
            "idempotency_key": "k",
            "state": "pending",
            "payload": {"a": 1},
            "attempt_count": 0,
            "finished_at": None,
            "expires_at": None,
            "replay_of": None,
            "source": "api",
            "request_id": str(row.pk),
            "last_error": "",
            "attempts": [],
        }

    def test_row_and_wake_up_commit_together_or_not_at_all(self, workflow, post):
        workflow()

        def found() -> tuple[int, bool]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'dispatch'")
                return Delivery.objects.count(), cursor.fetchone()[0] > 0

        with transaction.atomic():
            assert post({"workflow": "echo", "payload": {}}).status_code == 201
            assert found() == (1, True)
            transaction.set_rollback(True)
        assert found() == (0, False)
        post({"workflow": "echo", "payload": {}})
        assert found() == (1, True)

    def test_the_key_may_be_a_header(self, workflow, post):
        workflow()
        first = post({"workflow": "echo", "payload": {"a": 1}}, **{"Idempotency-Key": "h-1"})
        again = post({"workflow": "echo", "payload": {"a": 1}, "idempotency_key": "h-1"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["idempotency_key"] == "h-1"

    def test_a_repeat_is_the_first_delivery(self, workflow, post):
        workflow()
        body = {"workflow": "echo", "payload": {"a": 1, "b": [2]}, "idempotency_key": "k"}
        first = post(body)
        again = post('{"idempotency_key": "k", "payload": {"b":[2],   "a":1}, "workflow": "echo"}')
        assert again.status_code == 200
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json() == first.json()
        assert "Idempotent-Replayed" not in first.headers

    def test_the_same_key_with_another_payload_is_refused(self, workflow, post):
        workflow()
        post({"workflow": "echo", "payload": {"a": 1}, "idempotency_key": "k"})
        response = post({"workflow": "echo", "payload": {"a": 2}, "idempotency_key": "k"})
        assert response.status_code == 409
        assert response.headers["Content-Type"] == "application/problem+json"
        assert Delivery.objects.count() == 1

    def test_a_key_belongs_to_its_lane(self, workflow, post):
        workflow()
        workflow("other")
        bodies = [("echo", "default"), ("echo", "acme"), ("other", "default")]
        for slug, tenant in bodies:
            body = {
                "workflow": slug,
                "tenant": tenant,
                "payload": {"s": slug + tenant},
                "idempotency_key": "k",
            }
            assert post(body).status_code == 201

    def test_later_and_expiring(self, workflow, post):
        workflow()
        due, end = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(hours=2)
        body = {
            "workflow": "echo",
            "payload": {},
            "deliver_at": due.isoformat(),
            "expires_at": end.isoformat(),
        }
        shape = post(body).json()
        assert datetime.fromisoformat(shape["due_at"]) == due
        assert datetime.fromisoformat(shape["expires_at"]) == end

    def test_an_unchanged_payload_is_skipped_where_the_workflow_asks_for_it(self, workflow, post):
        workflow(skip_unchanged=True)
        states = [post({"workflow": "echo", "payload": p}).json()["state"] for p in ({"a": 1}, {"a": 1}, {"a": 2})]
        assert states == ["pending", "skipped", "pending"]

    def test_a_batch_keeps_its_order(self, workflow, post):
        workflow()
        workflow("other")
        many = [{"workflow": "echo" if i % 3 else "other", "payload": {"i": i}} for i in range(1000)]
        response = post({"deliveries": many}, URL + "batch/")
        assert response.status_code == 201
        assert [one["payload"]["i"] for one in response.json()["deliveries"]] == list(range(1000))
        assert Delivery.objects.count() == 1000

    def test_a_batch_is_all_or_nothing(self, workflow, post):
        workflow()
        good = {"workflow": "echo", "payload": {}}
        for bad in ({"workflow": "nope", "payload": {}}, {"workflow": "echo"}, 7, {**good, "extra": 1}):
            response = post({"deliveries": [good, bad]}, URL + "batch/")
            assert response.status_code == 400, bad
            assert Delivery.objects.count() == 0

    def test_a_batch_may_name_a_key_twice_with_one_payload(self, workflow, post):
        workflow()
        one = {"workflow": "echo", "payload": {"a": 1}, "idempotency_key": "k"}
        found = post({"deliveries": [one, one]}, URL + "batch/").json()["deliveries"]
        assert found[0]["id"] == found[1]["id"]
        two = {**one, "payload": {"a": 2}, "idempotency_key": "k"}
        assert post({"deliveries": [one, two]}, URL + "batch/").status_code == 409

    def test_a_batch_has_a_limit(self, workflow, post):
        workflow()
        many = [{"workflow": "echo", "payload": {}}] * 1001
        assert post({"deliveries": many}, URL + "batch/").status_code == 400


def _nested(depth: int) -> str:
    return '{"workflow": "echo", "payload": ' + '{"a":' * depth + "1" + "}" * depth + "}"


BAD_BODIES = {
    "empty": b"",
    "not json": b"{",
    "not utf-8": b'{"workflow": "echo", "payload": {"a": "\xff"}}',
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "trailing": b'{"workflow": "echo", "payload": {}} x',
    "unknown field": b'{"workflow": "echo", "payload": {}, "extra": 1}',
    "twice": b'{"workflow": "echo", "payload": {}, "payload": {"a": 1}}',
    "no payload": b'{"workflow": "echo"}',
    "scalar payload": b'{"workflow": "echo", "payload": 5}',
    "no workflow": b'{"payload": {}}',
    "unknown workflow": b'{"workflow": "nope", "payload": {}}',
    "workflow of another type": b'{"workflow": ["echo"], "payload": {}}',
    "not a slug": b'{"workflow": "Echo!", "payload": {}}',
    "bad tenant": b'{"workflow": "echo", "tenant": "A B", "payload": {}}',
    "null tenant": b'{"workflow": "echo", "tenant": null, "payload": {}}',
    "nul in a value": b'{"workflow": "echo", "payload": {"a": "x\\u0000y"}}',
    "nul in a name": b'{"workflow": "echo", "payload": {"\\u0000": 1}}',
    "raw nul": b'{"workflow": "echo", "payload": {"a": "\x00"}}',
    "nul in the key": b'{"workflow": "echo", "payload": {}, "idempotency_key": "a\\u0000"}',
    "lone surrogate": b'{"workflow": "echo", "payload": {"a": "\\ud800"}}',
    "lone low surrogate": b'{"workflow": "echo", "payload": ["\\uDFFF"]}',
    "nan": b'{"workflow": "echo", "payload": {"a": NaN}}',
    "a number beyond all": b'{"workflow": "echo", "payload": {"a": 1e400}}',
    "infinity": b'{"workflow": "echo", "payload": {"a": -Infinity}}',
    "deep": _nested(3000).encode(),
    "deep list": b'{"workflow": "echo", "payload": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    "long number": b'{"workflow": "echo", "payload": {"a": ' + b"9" * 5000 + b"}}",
    "long key": json.dumps({"workflow": "echo", "payload": {}, "idempotency_key": "k" * 5000}).encode(),
    "empty key": b'{"workflow": "echo", "payload": {}, "idempotency_key": ""}',
    "key with a line break": b'{"workflow": "echo", "payload": {}, "idempotency_key": "a\\nb"}',
    "key not ascii": '{"workflow": "echo", "payload": {}, "idempotency_key": "ä"}'.encode(),
    "key a number": b'{"workflow": "echo", "payload": {}, "idempotency_key": 5}',
    "bad date": b'{"workflow": "echo", "payload": {}, "deliver_at": "tomorrow"}',
    "no such date": b'{"workflow": "echo", "payload": {}, "deliver_at": "2026-02-31T00:00:00Z"}',
    "date a number": b'{"workflow": "echo", "payload": {}, "deliver_at": 5}',
    "date out of range": b'{"workflow": "echo", "payload": {}, "deliver_at": "0001-01-01T00:00:00+14:00"}',
    "far date out of range": b'{"workflow": "echo", "payload": {}, "deliver_at": "9999-12-31T23:59:59-14:00"}',
    "expires in the past": b'{"workflow": "echo", "payload": {}, "expires_at": "2020-01-01T00:00:00Z"}',
}


@pytest.mark.django_db
class TestBadInput:
    @pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
    def test_each_gets_a_400_and_leaves_no_row(self, workflow, post, body):
        workflow()
        response = post(body)
        assert response.status_code == 400, response.content
        assert response.headers["Content-Type"] == "application/problem+json"
        shape = response.json()
        assert {"type", "title", "status", "detail"} <= shape.keys()
        assert shape["status"] == 400
        assert not Delivery.objects.exists()
        wrapped = post(b'{"deliveries": [' + body + b"]}", URL + "batch/")
        assert wrapped.status_code == 400, wrapped.content
        assert not Delivery.objects.exists()

    def test_a_body_of_30_mb_is_too_large(self, workflow, post):
        workflow()
        response = post(b'{"workflow": "echo", "payload": {"a": "' + b"x" * 30_000_000 + b'"}}')
        assert response.status_code == 413
        assert response.headers["Content-Type"] == "application/problem+json"
        assert not Delivery.objects.exists()

    @pytest.mark.parametrize("value", ["k" * 5000, "h\xe4", "", " ", "a\tb"])
    def test_a_senseless_key_header(self, workflow, post, value):
        workflow()
        response = post({"workflow": "echo", "payload": {}}, **{"Idempotency-Key": value})
        assert response.status_code == 400, response.content

    def test_header_and_field_that_differ(self, workflow, post):
        workflow()
        body = {"workflow": "echo", "payload": {}, "idempotency_key": "a"}
        assert post(body, **{"Idempotency-Key": "b"}).status_code == 400

    @pytest.mark.parametrize(
        "query",
        [
            "cursor=nonsense",
            "cursor=cD1ub25zZW5zZQ%3D%3D",
            "cursor=%ff",
            "cursor=",
            "cursor=bz05OTk5OTk5OTk5OTk5",
            "page_size=0",
            "page_size=9999999999999",
            "page_size=x",
            "unknown=1",
            "state=lost",
            "created_after=yesterday",
            "created_before=0001-01-01T00:00:00%2B14:00",
            "workflow=%00",
            "tenant=A",
        ],
    )
    def test_a_senseless_query(self, api, query):
        response = api.get(f"{URL}?{query}")
        assert response.status_code == 400, response.content
        assert response.headers["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("get", URL + "018f0000-0000-7000-8000-000000000000/", 404),
            ("get", URL + "not-an-id/", 404),
            ("post", URL + "018f0000-0000-7000-8000-000000000000/cancel/", 404),
            ("put", URL, 405),
            ("get", URL + "batch/", 405),
            ("get", "/api/v1/nowhere/", 404),
            ("get", "/nowhere", 404),
        ],
    )
    def test_wrong_addresses_get_a_problem(self, api, method, path, status):
        response = getattr(api, method)(path, content_type="application/json")
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
class TestReading:
    def test_pages_cover_everything_once_newest_first(self, workflow, api, accept_many):
        workflow()
        made = accept_many(120)
        seen, url = [], URL + "?page_size=50"
        pages = 0
        while url:
            page = api.get(url).json()
            assert page.keys() == {"next", "previous", "results"}
            seen += [one["id"] for one in page["results"]]
            url, pages = page["next"], pages + 1
        assert pages == 3
        assert seen == sorted((str(one.pk) for one in made), reverse=True)

    def test_filters(self, workflow, api, accept):
        workflow()
        workflow("other")
        first = accept()
        accept(tenant="acme")
        accept(workflow="other")
        Delivery.objects.filter(pk=first.pk).update(state="cancelled")

        def count(query):
            return len(api.get(f"{URL}?{query}").json()["results"])

        assert count("workflow=echo") == 2
        assert count("tenant=acme") == 1
        assert count("workflow=echo&tenant=default&state=cancelled") == 1
        assert count("state=pending") == 2
        assert count("workflow=nope") == 0
        assert count("created_after=2020-01-01T00:00:00Z") == 3
        assert count("created_before=2020-01-01T00:00:00Z") == 0

    def test_lists_need_few_queries(self, workflow, api, accept_many, django_assert_max_num_queries):
        workflow()
        accept_many(50)
        with django_assert_max_num_queries(4):
            api.get(URL)


@pytest.mark.django_db
def test_cancel_withdraws_what_is_not_sent(workflow, api, accept):
    workflow()
    made = accept()
    response = api.post(f"{URL}{made.pk}/cancel/", content_type="application/json")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    again = api.post(f"{URL}{made.pk}/cancel/", content_type="application/json")
    assert again.status_code == 409
    Delivery.objects.filter(pk=made.pk).update(state="delivered")
    assert api.post(f"{URL}{made.pk}/cancel/", content_type="application/json").status_code == 409


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("payloads", [1, 16])
def test_one_key_from_16_threads_is_one_delivery(workflow, key, payloads):
    workflow()
    plain, answers, go = key(), [], threading.Barrier(16)

    def send(number: int) -> None:
        client = Client(headers={"X-API-Key": plain})
        body = {"workflow": "echo", "payload": {"n": number % payloads}, "idempotency_key": "k"}
        go.wait()
        answers.append(client.post(URL, body, content_type="application/json"))
        connection.close()

    threads = [threading.Thread(target=send, args=[n]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(one.status_code for one in answers)
    assert codes == ([200] * 15 + [201] if payloads == 1 else [201] + [409] * 15)
    assert Delivery.objects.count() == 1
