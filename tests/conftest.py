"""What the tests share."""

import json

import pytest
from django.conf import settings as project
from django.db import connections
from django.test import Client, TransactionTestCase

from config.database import roles
from reliability.core import clock
from reliability.delivery import dispatcher, intake
from reliability.delivery.intake import Trigger
from reliability.models import ApiKey, Breaker, Delivery, Lane, Workflow, digest_of

from .support import database, openapi, shared
from .support.receiver import Receiver
from .support.workers import Workers


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings, django_db_blocker):
    """Clone the tests' database from one that is migrated already, and set the tests' own server to be fast."""
    if project.IS_OWN_SERVER:
        database.make_fast(project.DATABASE_ADDRESS)
    connections["default"].settings_dict["TEST"]["TEMPLATE"] = database.template(project.DATABASE_ADDRESS)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Empty the database after tests that commit, by deletes."""
    with django_db_blocker.unblock():
        emptier = database.Emptier()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: emptier.empty())
        yield


@pytest.fixture(autouse=True)
def _no_limit_of_the_database():
    """Tests may ask the database for as long as they like, though some load the web's application and its limits."""
    roles.set_process_role(roles.COMMAND)


@pytest.fixture(autouse=True)
def _groups_at_once(request):
    """A test that never commits sees failure groups and totals count with each statement."""
    marker = request.node.get_closest_marker("django_db")
    in_one = {"transactional_db", "live_server"}.isdisjoint(request.fixturenames)
    if in_one and (marker or "db" in request.fixturenames) and not (marker and marker.kwargs.get("transaction")):
        request.getfixturevalue("db")
        shared.count_with_each_statement()


@pytest.fixture
def receiver(settings):
    """A server in n8n's place."""
    made = Receiver().start()
    settings.N8N_WEBHOOK_URL = made.url
    yield made
    made.stop()


@pytest.fixture
def workflow(db):
    """Make a workflow; quick retries unless told otherwise."""

    def make(slug: str = "echo", **values) -> Workflow:
        quick = {"base_delay_ms": 1, "max_delay_ms": 50, "timeout_ms": 2000, "max_retries": 3}
        return Workflow.objects.create(slug=slug, **{"name": slug, "path": slug, **quick, **values})

    return make


@pytest.fixture
def accept(db):
    """Accept a payload; return its delivery."""

    def make(payload=None, *, workflow: str = "echo", **values) -> Delivery:
        document = {"n": 1} if payload is None else payload
        trigger = Trigger(workflow=workflow, payload=json.dumps(document), digest=digest_of(document), **values)
        return intake.accept(triggers=[trigger], now=clock.now())[0].delivery

    return make


@pytest.fixture
def accept_many(db):
    """Accept `count` payloads at once; return their deliveries."""

    def make(count: int, *, workflow: str = "echo", **values) -> list[Delivery]:
        triggers = [
            Trigger(workflow=workflow, payload=json.dumps({"n": n}), digest=digest_of({"n": n}), **values)
            for n in range(count)
        ]
        return [one.delivery for one in intake.accept(triggers=triggers, now=clock.now())]

    return make


@pytest.fixture
def drain():
    """Let a dispatcher of this process work on lanes until their turn is over."""
    made = dispatcher.Dispatcher(capacity=32)

    def work(lane: Lane | int | None = None, *, timeout: float = 30) -> None:
        ids = Lane.objects.values_list("pk", flat=True) if lane is None else [getattr(lane, "pk", lane)]
        for future in [made.process_lane(lane_id=one) for one in ids]:
            future.result(timeout=timeout)

    yield work
    made.close()


@pytest.fixture
def workers(tmp_path):
    """Real worker processes."""
    made = Workers(tmp_path)
    yield made
    made.end_all()


@pytest.fixture
def key(db):
    """Make an API key; return its plain text."""

    def make(**values) -> str:
        return ApiKey.issue(**{"name": "test", **values})[1]

    return make


@pytest.fixture
def api(key):
    """A client with a key for everything."""
    return Client(headers={"Authorization": f"Bearer {key()}"})


@pytest.fixture
def held_against_schema(monkeypatch):
    """Let each answer of the API be held against the OpenAPI document."""
    real = Client.request

    def request(self, **values):
        response = real(self, **values)
        openapi.check(response)
        return response

    monkeypatch.setattr(Client, "request", request)


@pytest.fixture
def lane_breaker():
    """Return the breaker of a workflow's lane."""

    def find(slug: str = "echo", tenant: str = "default") -> Breaker:
        return Breaker.objects.get(lane__workflow__slug=slug, lane__tenant=tenant)

    return find
