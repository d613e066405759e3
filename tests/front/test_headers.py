"""Headers count by their exact names, and Host only where it decides something."""

import json

import pytest
import requests
from django.test import Client

from ..support import stripe
from ..support.raw import Raw
from .conftest import logged, refused

SECRET = "a-cron-secret"
BODY = json.dumps({"workflow": "echo", "payload": {"n": 1}}).encode()
LENGTH = f"Content-Length: {len(BODY)}"


def post(web, path: str, *headers: str, body: bytes = BODY):
    with Raw(web.url) as one:
        return one.head("POST", path, f"Content-Length: {len(body)}", *headers).send(body).read("POST")


def test_a_key_counts_by_its_exact_header_only(serve, key, workflow):
    workflow(paused=True)
    web, plain = serve(), key()
    assert post(web, "/api/v1/deliveries/", f"X_API_Key: {plain}").status == 401
    assert post(web, "/api/v1/deliveries/", f"X-API_Key: {plain}").status == 401
    assert post(web, "/api/v1/deliveries/", f"X-API-Key: {plain}", "X_API_Key: bs_other").status == 201
    assert post(web, "/api/v1/deliveries/", "X_API_Key: bs_other", f"X-API-Key: {plain}").status == 201


def test_http_1_0_needs_no_host(serve, key, workflow):
    workflow(paused=True)
    with Raw(serve().url) as one:
        head = f"POST /api/v1/deliveries/ HTTP/1.0\r\nX-API-Key: {key()}\r\n{LENGTH}\r\n\r\n"
        assert one.send(head.encode() + BODY).read("POST").status == 201


def test_the_cron_secret_counts_by_its_exact_header_only(serve):
    web = serve()
    with Raw(web.url) as one:
        assert one.head("GET", "/cron/x/", f"X_Cron_Secret: {SECRET}").read().status == 403
        assert one.head("GET", "/cron/x/", f"X-Cron-Secret: {SECRET}").read().status == 200
        assert one.head("GET", "/cron/x/", f"X-Cron-Secret: {SECRET}", "X_Cron_Secret: no").read().status == 200
    assert post(web, "/cron/x/", f"X_Cron_Secret: {SECRET}").status == 403


def test_an_idempotency_key_counts_by_its_exact_header_only(serve, key, workflow):
    from reliability.models import Delivery

    workflow(paused=True)
    web, bearer = serve(), f"Authorization: Bearer {key()}"
    for _ in range(2):
        assert post(web, "/api/v1/deliveries/", bearer, "Idempotency_Key: one").status == 201
    assert not Delivery.objects.filter(idempotency_key="one").exists()


def test_a_signature_of_stripe_counts_by_its_exact_header_only(serve):
    web, body = serve(STRIPE_WEBHOOK_SECRET=stripe.SECRET), stripe.event()
    signature = stripe.sign(body)
    assert post(web, "/stripe/webhook/", f"Stripe_Signature: {signature}", body=body).status == 400
    assert post(web, "/stripe/webhook/", f"Stripe-Signature: {signature}", body=body).status == 200


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (("X-Forwarded-For: 203.0.113.7",), "203.0.113.7"),
        (("X-Forwarded-For: 203.0.113.7", "X_Forwarded_For: 198.51.100.1"), "203.0.113.7"),
        (("X_Forwarded_For: 198.51.100.1",), "127.0.0.1"),
        (("X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 203.0.113.7"), "203.0.113.7"),
        (("X-Forwarded-For: 198.51.100.1, 203.0.113.7",), "203.0.113.7"),
    ],
    ids=lambda value: "; ".join(value) if isinstance(value, tuple) else value,
)
def test_the_caller_s_address_is_what_our_proxy_appended_last(serve, forwarded, address):
    from reliability.models import StripeRefusal

    web = serve(TRUSTED_PROXIES="1")
    assert post(web, "/stripe/webhook/", *forwarded, "Stripe-Signature: t=1,v1=0").status == 400
    assert StripeRefusal.objects.get().address == address


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key", "Idempotency-Key", "Content-Type", "Host"])
def test_a_header_that_may_come_once_is_refused_when_it_comes_twice(serve, key, name):
    web = serve()
    answer = post(web, "/api/v1/deliveries/", f"{name}: a", f"{name}: b", f"X-Other: {key()}")
    assert answer.status == 400
    assert name.lower() in json.loads(answer.body)["detail"]
    assert refused(web, "duplicate_header") == 1


def test_bytes_beyond_ascii_arrive_as_they_came(serve, key, workflow):
    from reliability.models import Delivery

    workflow(paused=True)
    web, bearer = serve(), f"Authorization: Bearer {key()}"
    answer = post(web, "/api/v1/deliveries/", bearer, "Idempotency-Key: sch\xf6n")
    if answer.status == 201:
        assert Delivery.objects.get().idempotency_key == "sch\xf6n"
    else:
        assert answer.status == 400, "refused, and not ignored"


@pytest.mark.parametrize("host", ["elsewhere.example.com", "bad host", "10.1.2.3", "[::1", "x" * 300])
def test_a_host_that_is_not_ours_is_one_short_line_in_the_log(serve, host):
    web = serve(ALLOWED_HOSTS="127.0.0.1")
    with Raw(web.url) as one:
        api = one.head("GET", "/api/v1/deliveries/", host=host).read()
    with Raw(web.url) as one:
        page = one.head("GET", "/admin/login/", host=host).read()
    assert (api.status, api.headers["content-type"]) == (400, "application/problem+json")
    assert (page.status, page.headers["content-type"].partition(";")[0]) == (400, "text/html")
    log = logged(web)
    assert "Traceback" not in log
    assert "ERROR" not in log
    lines = [line for line in log.splitlines() if "host_refused" in line]
    assert len(lines) == 2
    assert all(len(line) < 400 for line in lines)
    for path in ("/healthz", "/readyz"):
        with Raw(web.url) as one:
            assert one.head("GET", path, host=host).read().status == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_told_whatever_the_host_under_another_server_too(path):
    assert Client(headers={"Host": "elsewhere.example.com"}).get(path).status_code == 200


def test_what_a_stranger_can_cause_is_no_error_with_a_traceback(serve):
    web = serve()
    token = "a" * 32
    fields = {"csrfmiddlewaretoken": token, **{f"a{n}": "b" for n in range(2000)}}
    sent = requests.post(f"{web.url}/admin/login/", data=fields, cookies={"csrftoken": token}, timeout=30)
    assert sent.status_code == 400
    assert "Traceback" not in logged(web)
    assert "TooManyFieldsSent" in logged(web)


def test_health_is_told_as_the_view_tells_it(serve):
    answer = requests.get(f"{serve().url}/healthz", timeout=30)
    view = Client().get("/healthz")
    assert answer.content == view.content
    for name in set(view.headers) - {"Content-Security-Policy"}:  # which is for pages
        assert answer.headers[name] == view.headers[name]
    assert answer.headers["X-Request-Id"]
