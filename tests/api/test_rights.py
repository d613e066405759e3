"""A call that names no scope is refused: every route, every method, every single scope, and another tenant's key."""

import pytest
from django.test import Client

from reliability.api.common.views import View
from reliability.core import clock
from reliability.models import (
    AlertSilence,
    ApiKey,
    Breaker,
    DeadLetter,
    Delivery,
    KeyScope,
    Operation,
    OperationKind,
    Slot,
    StripeClaim,
)
from scheduling.models import CronJob

from .routes import METHODS, api_routes, routes

pytestmark = pytest.mark.django_db
# What is answered without a key: health, the console's own sign-in, the documents, and the light check of cron.
OPEN = {
    "",
    "favicon.ico",
    "healthz",
    "readyz",
    "metrics",
    "api/schema/",
    "api/docs/",
    "admin/login/",
    "admin/logout/",
    "admin/jsi18n/",
}
# These answer whatever the method: by nothing that anybody may not see.
ANY_METHOD = {"healthz", "readyz", "admin/login/"}
SINGLE = [[str(scope)] for scope in KeyScope]


def call(client, method, address):
    body = {} if method in ("GET", "HEAD", "TRACE") else {"data": b"{}", "content_type": "application/json"}
    return client.generic(method, address, **body)


@pytest.fixture
def clients(key):
    return {scope: Client(headers={"X-API-Key": key(name=scope, scopes=[scope])}) for (scope,) in SINGLE}


def test_the_walk_meets_every_route():
    found = {one.template for one in api_routes()}
    assert {"api/v1/deliveries/", "api/v1/cron-jobs/<slug:job>/run/", "api/v1/breakers/permit/"} <= found
    others = {one.template for one in routes()} - found
    assert {"cron/<job>/", "stripe/webhook/", "api/weekly-recap", "admin/reliability/deadletter/"} <= others
    assert all(issubclass(one.view, View) for one in api_routes())


@pytest.mark.parametrize("route", api_routes(), ids=lambda one: one.template)
def test_a_key_of_one_scope_does_what_that_scope_names_and_nothing_else(route, clients):
    for method in METHODS:
        named = route.view.scopes.get("GET" if method == "HEAD" else method)
        if method not in route.methods:
            for client in clients.values():
                assert call(client, method, route.address()).status_code == 405, method
            continue
        assert named, f"{method} names no scope"
        for scope, client in clients.items():
            answer = call(client, method, route.address())
            if scope == named:
                assert answer.status_code not in (401, 405), (method, scope, answer.content)
                assert b"does not have the scope" not in answer.content
            else:
                assert answer.status_code == 403, (method, scope, answer.content)


@pytest.mark.parametrize("route", api_routes(), ids=lambda one: one.template)
def test_without_a_key_nothing_is_answered(route):
    for method in METHODS:
        assert call(Client(), method, route.address()).status_code == 401, method


@pytest.mark.parametrize("route", [one for one in routes() if one not in api_routes()], ids=lambda one: one.template)
def test_a_key_opens_nothing_but_the_api(route, key):
    client = Client(headers={"X-API-Key": key()})
    for method in METHODS:
        answer = call(client, method, route.address())
        if route.template in (ANY_METHOD if method not in ("GET", "HEAD") else OPEN):
            continue
        assert answer.status_code >= 300, method
        if answer.status_code in (301, 302):
            assert answer.headers["Location"].startswith(("/admin/", "/static/")), answer.headers
        assert answer.status_code < 500 or answer.status_code == 503


def test_a_view_that_forgets_to_name_a_scope_cannot_be_defined():
    with pytest.raises(TypeError, match="has no scope for PATCH"):

        class Forgetful(View):
            scopes = {"GET": "read"}

            def get(self, request):
                raise NotImplementedError

            def patch(self, request):
                raise NotImplementedError


@pytest.fixture
def acmes(workflow, accept, key):
    """Rows of the tenant `acme`; by parameter, how each is named in an address."""
    workflow()
    now = clock.now()
    made = accept(tenant="acme")
    key(name="acme's", tenant="acme")
    lane = made.lane
    letter = DeadLetter.objects.create(
        *(), lane=lane, source="api", payload='{"of": "acme"}', created_at=now, died_at=now, expires_at=now
    )
    operation = Operation.objects.create(
        kind=OperationKind.PURGE, filter={"tenant": "acme"}, cutoff=now, actor="a", created_at=now
    )
    slot = Slot.objects.create(lane=lane, holder="acme", taken_at=now, expires_at=now)
    claim = StripeClaim.objects.create(
        event_id="evt_acme", tenant="acme", holder="acme", lease_until=now, created_at=now
    )
    CronJob.objects.create(slug="nightly", name="of acme", tenant="acme", schedule="0 3 * * *")
    silence = AlertSilence.objects.create(until=now, created_at=now, created_by="acme")
    return {
        "delivery_id": made.pk,
        "dead_letter_id": letter.pk,
        "batch_id": operation.pk,
        "breaker_id": Breaker.objects.get(lane=lane).pk,
        "slot_id": slot.pk,
        "claim": claim.pk,
        "job": "nightly",
        "workflow": "echo",
        "silence_id": silence.pk,
        "key_id": ApiKey.objects.get(tenant="acme").pk,
    }


@pytest.mark.parametrize("route", [one for one in api_routes() if "<" in one.template], ids=lambda one: one.template)
def test_another_tenants_key_reaches_no_row(route, acmes, key):
    before = (list(Delivery.objects.values()), list(DeadLetter.objects.values()), list(CronJob.objects.values()))
    client = Client(headers={"X-API-Key": key(name="globex's", tenant="globex")})
    for method in route.methods:
        answer = call(client, method, route.address(**acmes))
        assert answer.status_code in (400, 403, 404), (method, answer.content)
        assert b"acme" not in answer.content
    after = (list(Delivery.objects.values()), list(DeadLetter.objects.values()), list(CronJob.objects.values()))
    assert before == after


@pytest.mark.parametrize(
    "route", [one for one in api_routes() if "<" not in one.template], ids=lambda one: one.template
)
def test_another_tenants_key_lists_no_row(route, acmes, key):
    client = Client(headers={"X-API-Key": key(name="globex's", tenant="globex")})
    if "GET" in route.methods:
        assert b"acme" not in call(client, "GET", route.address()).content
