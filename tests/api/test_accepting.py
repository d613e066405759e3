"""The usual delivery is accepted in one statement; what is not usual is answered as if there were no such way."""

import json
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reliability.api.delivery import accepting
from reliability.core import clock
from reliability.delivery import intake
from reliability.lanes import opening
from reliability.models import ApiKey, Delivery, Workflow

pytestmark = pytest.mark.django_db
URL = "/api/v1/deliveries/"
BODY = {"workflow": "echo", "payload": {"a": [1, "ä"]}}
READ_KEY = "reliability_apikey"


@pytest.fixture
def post(workflow, key):
    """Post with a key whose use has just been written down; `statements` are those of the last request."""
    workflow()
    plain = key()
    ApiKey.objects.update(last_used_at=clock.now())

    class Post:
        statements: list[str] = []

        def __call__(self, body=BODY, *, shown=plain, **headers):
            data = body if isinstance(body, str) else json.dumps(body)
            with CaptureQueriesContext(connection) as queries:
                client = Client(headers={"Authorization": f"Bearer {shown}", **headers})
                answer = client.post(URL, data, content_type="application/json")
            self.statements = [one["sql"] for one in queries]
            return answer

        @property
        def was_at_once(self):
            return len(self.statements) == 1 and "backstop_accept_by_key" in self.statements[0]

    made = Post()
    made.plain = plain
    assert made().status_code == 201  # which opens the lane
    Delivery.objects.all().delete()
    return made


def test_the_usual_request_is_one_statement(post):
    answer = post()
    assert (answer.status_code, post.was_at_once) == (201, True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock LIKE 'lane:%' AND status = 'todo'")
        assert cursor.fetchone() == (1,)


FURTHER = [
    {},
    {"idempotency_key": "k"},
    {"tenant": "default"},
    {"deliver_at": "2090-01-01T00:00:00Z"},
    {"deliver_at": "2001-01-01T00:00:00Z"},
    {"deliver_at": None, "expires_at": None},
]


@pytest.mark.parametrize("further", FURTHER)
def test_both_ways_keep_and_answer_the_same(post, monkeypatch, further):
    answers, rows = [], []
    for way in ("at once", "step by step"):
        if way != "at once":
            monkeypatch.setattr(accepting, "at_once", lambda request, view: None)
        shape = post({**BODY, **further}).json()
        assert post.was_at_once == (way == "at once")
        row = Delivery.objects.values().get(pk=shape["id"])
        assert shape["created_at"] == row["created_at"].isoformat().replace("+00:00", "Z")
        assert (row["due_at"] == row["created_at"]) == ("2090" not in str(further))
        own = {"id", "request_id", "created_at", *({"due_at"} if "2090" not in str(further) else ())}
        own |= set() if "idempotency_key" in further else {"idempotency_key"}
        answers.append({name: value for name, value in shape.items() if name not in own})
        rows.append({name: value for name, value in row.items() if name not in own})
        Delivery.objects.all().delete()
    assert answers[0] == answers[1]
    assert rows[0] == rows[1]


def test_the_payload_is_kept_as_it_was_sent(post):
    post('{"payload": {"b" : 1.50, "a":"\\u00e4"}, "workflow": "echo"}')
    assert post.was_at_once
    assert Delivery.objects.get().payload == '{"b" : 1.50, "a":"\\u00e4"}'


KEYS = [
    ("revoked", {"revoked_at": timedelta(0)}, {}, 401),
    ("expired", {"expires_at": timedelta(seconds=-1)}, {}, 401),
    ("without the scope", {"scopes": ["read"]}, {}, 403),
    ("of another tenant", {"tenant": "acme"}, {"tenant": "globex"}, 403),
    ("not yet expired", {"expires_at": timedelta(minutes=1)}, {}, 201),
    ("with the scope", {"scopes": ["read", "deliver"]}, {}, 201),
    ("of the same tenant", {"tenant": "default"}, {"tenant": "default"}, 201),
    ("of a tenant that goes unsaid", {"tenant": "default"}, {}, 201),
]


@pytest.mark.parametrize(("what", "values", "further", "status"), KEYS, ids=[one[0] for one in KEYS])
def test_a_key_is_good_or_it_is_not(post, what, values, further, status):
    now = clock.now()
    fields = {name: now + value if isinstance(value, timedelta) else value for name, value in values.items()}
    ApiKey.objects.update(**fields)
    answer = post({**BODY, **further})
    assert (answer.status_code, post.was_at_once) == (status, status == 201)
    assert Delivery.objects.count() == (status == 201)


@pytest.mark.parametrize(
    "shown", ["bsk_\x00", "bsk_\x7f", "bsk_\xe9", "x" * 1000], ids=["nul", "control", "latin-1", "long"]
)
def test_what_can_be_no_key_is_refused_as_such(post, shown):
    assert post(shown=shown).status_code == 401
    assert post.statements == []


def test_a_key_of_the_same_prefix_is_another(post):
    assert post(shown=post.plain[:12] + "x" * (len(post.plain) - 12)).status_code == 401
    assert not Delivery.objects.exists()


def test_a_key_s_tenant_is_the_delivery_s(post):
    ApiKey.objects.update(tenant="acme")
    opening.open_lane(workflow_id=Workflow.objects.get().pk, tenant="acme")
    assert post().json()["tenant"] == "acme"
    assert post.was_at_once
    assert Delivery.objects.get().lane.tenant == "acme"


@pytest.mark.parametrize("offset", [-61, 3600])
def test_a_use_to_be_written_down_goes_step_by_step(post, offset):
    ApiKey.objects.update(last_used_at=clock.now() + timedelta(seconds=offset))
    assert (post().status_code, post.was_at_once) == (201, False)
    assert abs(ApiKey.objects.get().last_used_at - clock.now()) < timedelta(seconds=10)
    assert (post().status_code, post.was_at_once) == (201, True)


UNUSUAL = [
    ("no such workflow", {"workflow": "nowhere", "payload": {}}, 400),
    ("a new tenant", {**BODY, "tenant": "new"}, 201),
    ("an expiry to come", {**BODY, "expires_at": "2090-01-01T00:00:00Z"}, 201),
    ("an expiry gone by", {**BODY, "expires_at": "2001-01-01T00:00:00Z"}, 400),
    ("an unknown field", {**BODY, "colour": "red"}, 400),
    ("a bare value", {"workflow": "echo", "payload": 1}, 400),
    ("not JSON", "{", 400),
    ("a list", "[]", 400),
    ("a name twice", '{"workflow": "echo", "payload": {}, "payload": {}}', 400),
    ("nothing", "", 400),
    ("much", {"workflow": "echo", "payload": {"a": "x" * accepting.BODY_LIMIT}}, 201),
]


@pytest.mark.parametrize(("what", "body", "status"), UNUSUAL, ids=[one[0] for one in UNUSUAL])
def test_what_is_not_usual_goes_step_by_step(post, what, body, status):
    answer = post(body)
    assert (answer.status_code, post.was_at_once) == (status, False)
    assert Delivery.objects.count() == (status == 201)
    if status != 201:
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_repeat_is_the_first_one(post):
    first = post({**BODY, "idempotency_key": "k"})
    again = post(BODY, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == first.json()
    assert post({"workflow": "echo", "payload": {}, "idempotency_key": "k"}).status_code == 409
    assert Delivery.objects.count() == 1


def test_an_unchanged_payload_is_still_skipped(post):
    Workflow.objects.update(skip_unchanged=True)
    assert [post().json()["state"], post().json()["state"]] == ["pending", "skipped"]


@pytest.mark.parametrize("body", ["{", "[]", json.dumps({"workflow": "nowhere"})])
def test_a_stranger_learns_nothing_of_the_body(post, body):
    assert post(body, shown="bsk_" + "x" * 43).status_code == 401


def test_an_error_of_the_database_is_a_problem_and_not_tried_again(post, monkeypatch):
    def fail(**_):
        raise DatabaseError("secret")

    monkeypatch.setattr(intake, "accept_by_key", fail)
    answer = post()
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert "secret" not in answer.content.decode()
    assert not Delivery.objects.exists()
