"""Who is held responsible for an answer: the payload, the lane, the instance, or nobody but ourselves."""

import time
from datetime import timedelta

import pytest
from django.db import connection

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.delivery import sending
from reliability.lanes import wait_reasons
from reliability.lanes.messages import Sent
from reliability.models import Attempt, Breaker, DeadLetter, Delivery, Lane, Scope, Workflow
from reliability.n8n import workflow_files
from reliability.policies.classification import Failure, classify_failure
from reliability.setup import workflow_secrets

from ..support.receiver import Reply, until

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = Actor("test", "because")
TRAEFIK = Reply(404, "404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
HTML = {"Content-Type": "text/html"}
WAF = Reply(403, "<html><h1>Request blocked</h1></html>", HTML)
TOO_LARGE = Reply(413, "<html><h1>413 Request Entity Too Large</h1></html>", HTML)
HANG_UP = Reply(0)
QUICK = {"circuit_breaker_recovery_ms": 300, "max_retries": 0}


def count(state: str, slug: str = "echo") -> int:
    return Delivery.objects.filter(state=state, lane__workflow__slug=slug).count()


def instance() -> Breaker | None:
    return Breaker.objects.filter(scope=Scope.INSTANCE).first()


def ignores_success(breaker: Breaker | None) -> bool:
    return breaker is None or (breaker.state == "closed" and breaker.buckets == [])


def versions() -> list[tuple[str, str]]:
    """Return which version of each breaker's row is there: a write would make another."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text, xmin::text || ctid::text FROM reliability_breaker ORDER BY id")
        return cursor.fetchall()


def waits_for(delivery: Delivery) -> wait_reasons.Wait:
    row = Delivery.objects.select_related("lane__workflow", "lane__breaker").get(pk=delivery.pk)
    return wait_reasons.of(deliveries=[row], now=clock.now())[row.pk]


def test_a_backlog_outlives_a_proxy_that_finds_no_page(workflow, receiver, workers, accept_many, lane_breaker):
    """What Traefik says while n8n restarts, to a worker with everything at its default."""
    workflow(base_delay_ms=None, max_delay_ms=None, max_retries=None)
    receiver.rule = lambda got: TRAEFIK
    accept_many(20)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: lane_breaker().state == "open", what="the lane's breaker to open")
    assert lane_breaker().reason.startswith("http_404_not_json")
    time.sleep(3)
    assert (count("pending"), DeadLetter.objects.count()) == (20, 0)
    assert len(receiver.got) <= 5
    receiver.always()
    until(lambda: count("delivered") == 20, within=30, what="20 delivered")
    assert not DeadLetter.objects.exists()
    assert not Delivery.objects.filter(retries_used__gt=0).exists()
    assert ignores_success(instance())


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply(status, "", {"Location": "https://elsewhere.example/"}) for status in (301, 302, 303, 307, 308)),
        *(Reply(status, "<html>nginx</html>", HTML) for status in (400, 401, 404, 405, 407, 421, 422, 451)),
        Reply(404, '{"code":404,"message":"The requested webhook \\"POST echo\\" is not registered."}'),
        Reply(403, "Authorization data is wrong!"),
    ],
    ids=lambda one: f"{one.status} {one.body[:6]}",
)
def test_what_a_proxy_or_a_route_answers_keeps_the_lane_waiting(
    workflow, receiver, drain, accept_many, lane_breaker, reply
):
    workflow(concurrency_limit=2, **QUICK)
    workflow("other")
    receiver.rule = lambda got: reply if got.path.endswith("echo") else Reply()
    accept_many(8)
    accept_many(2, workflow="other")
    drain()
    assert lane_breaker().state == "open"
    assert len([one for one in receiver.got if one.path.endswith("echo")]) <= 3
    assert (count("pending"), count("delivered", "other")) == (8, 2)
    receiver.always()
    until(lambda: drain() or count("delivered") == 8, what="8 delivered")
    assert not DeadLetter.objects.exists()
    assert not Delivery.objects.filter(retries_used__gt=0).exists()
    assert ignores_success(instance())


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_lone_delivery_outlives_a_gateway_that_finds_nobody(workflow, receiver, drain, accept, lane_breaker, status):
    workflow(circuit_breaker_recovery_ms=300, max_retries=2, circuit_breaker_threshold=4)
    receiver.always(status, "<html>nginx</html>")
    made = accept()
    until(lambda: drain() or made.attempts.count() >= 6, what="six attempts")
    made.refresh_from_db()
    assert (made.state, made.retries_used) == ("pending", 0)
    assert lane_breaker().state in ("open", "half_open")
    assert instance().state == "closed"  # one lane alone never opens it
    receiver.always()
    until(lambda: drain() or count("delivered") == 1)


def test_a_firewall_that_refuses_everything_kills_nothing_and_stops_the_lane(
    workflow, receiver, workers, accept_many, lane_breaker
):
    workflow(concurrency_limit=4, base_delay_ms=100, max_delay_ms=500, **QUICK)
    receiver.rule = lambda got: WAF
    accept_many(30)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: lane_breaker().state == "open", what="the lane's breaker to open")
    time.sleep(3)
    assert (count("pending"), DeadLetter.objects.count()) == (30, 0)
    assert len(receiver.got) < 20
    receiver.always()
    until(lambda: count("delivered") == 30, within=30, what="30 delivered")
    assert not DeadLetter.objects.exists()


@pytest.mark.parametrize("reply", [WAF, TOO_LARGE, Reply(431, "", {}), Reply(414, "{}", {})], ids=lambda r: r.status)
def test_one_refused_payload_in_a_busy_lane_dies_alone(workflow, receiver, workers, accept_many, lane_breaker, reply):
    workflow(concurrency_limit=3, base_delay_ms=300, max_delay_ms=500, circuit_breaker_threshold=2, max_retries=0)
    receiver.rule = lambda got: reply if got.json["n"] == 7 else Reply(wait=0.05)
    made = accept_many(40)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: count("delivered") == 39 and count("dead") == 1, within=30, what="39 delivered, one dead")
    letter = DeadLetter.objects.get()
    assert (letter.delivery_id, letter.error_code, letter.reason) == (made[7].pk, f"http_{reply.status}", "refused")
    assert "Other deliveries got through" in letter.error_message
    breaker = lane_breaker()
    assert (breaker.state, breaker.transitions.count()) == ("closed", 0)


def test_a_lone_refused_payload_waits_until_another_shows_that_the_lane_works(
    workflow, receiver, drain, accept, lane_breaker
):
    workflow(**QUICK)
    receiver.rule = lambda got: TOO_LARGE if got.json["n"] == 1 else Reply()
    large = accept({"n": 1})
    until(lambda: drain() or large.attempts.count() >= 3, what="three attempts")
    large.refresh_from_db()
    assert (large.state, large.retries_used, lane_breaker().state) == ("pending", 0, "open")
    small = accept({"n": 2})
    until(lambda: drain() or count("dead") == 1, what="the large one's end")
    small.refresh_from_db()
    assert small.state == "delivered"
    assert DeadLetter.objects.get().delivery_id == large.pk


def test_a_refusal_that_comes_back_while_the_lane_is_open_is_told_from_the_rest_later(
    workflow, receiver, drain, accept, lane_breaker
):
    """A late refusal counts no more for the breaker, but its delivery must not open the lane again and again."""
    workflow(concurrency_limit=2, base_delay_ms=1000, max_delay_ms=1000, timeout_ms=60_000, **QUICK)

    def answer(got):
        if got.json["n"] == 1:  # its answer comes once the breaker is open, and not before
            try:
                until(lambda: lane_breaker().state == "open", what="the breaker to open")
            finally:
                connection.close()  # of this thread
        return {1: Reply(413, ""), 2: TRAEFIK}.get(got.json["n"], Reply())

    receiver.rule = answer
    large, other = accept({"n": 1}), accept({"n": 2})
    drain()
    until(lambda: drain() or large.attempts.count() >= 1)
    assert lane_breaker().reason.startswith("http_404_not_json")
    large.refresh_from_db()
    assert large.refused_at is not None
    receiver.rule = lambda got: TOO_LARGE if got.json["n"] == 1 else Reply()
    until(lambda: drain() or (accept({"n": 3}) and count("dead") == 1), what="the large one's end")
    other.refresh_from_db()
    assert other.state == "delivered"
    assert DeadLetter.objects.get().delivery_id == large.pk


def test_resets_of_one_lane_do_not_stop_another(workflow, receiver, workers, accept_many, lane_breaker):
    workflow(concurrency_limit=2, max_retries=50, circuit_breaker_threshold=20, base_delay_ms=20)
    workflow("other", concurrency_limit=1)
    receiver.rule = lambda got: HANG_UP if got.path.endswith("echo") else Reply(wait=0.02)
    accept_many(4)
    accept_many(100, workflow="other")
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: lane_breaker().state == "open", within=40, what="the lane's breaker to open")
    until(lambda: count("delivered", "other") == 100, within=40, what="100 delivered")
    assert Attempt.objects.filter(result="unknown").count() >= 20
    found = instance()
    assert found is None or (found.state, found.transitions.count()) == ("closed", 0)


def test_resets_of_one_lane_alone_are_held_by_its_own_breaker(workflow, receiver, drain, accept_many, lane_breaker):
    workflow(max_retries=50, circuit_breaker_threshold=15)
    receiver.rule = lambda got: HANG_UP
    accept_many(5)
    until(lambda: drain() or lane_breaker().state == "open", what="the lane's breaker to open")
    assert instance().state == "closed"


def test_gateway_errors_of_several_lanes_open_the_instance_and_it_is_back_soon(
    workflow, receiver, drain, accept_many, lane_breaker, settings
):
    settings.N8N_CIRCUIT_BREAKER_RECOVERY_MS = 200
    workflow("one", circuit_breaker_threshold=50, circuit_breaker_recovery_ms=200)
    workflow("two", circuit_breaker_threshold=50, circuit_breaker_recovery_ms=200)
    receiver.always(502, "<html>nginx</html>")
    for slug in ("one", "two"):
        accept_many(3, workflow=slug)
    until(lambda: drain() or instance().state == "open", what="the instance's breaker to open")
    assert instance().reason.startswith("http_502")
    receiver.always()
    until(lambda: drain() or Delivery.objects.filter(state="delivered").count() == 6)
    assert (instance().state, instance().suspects) == ("closed", [])
    assert not Delivery.objects.filter(retries_used__gt=0).exists()


def test_successes_write_nothing_to_a_quiet_instance(workflow, receiver, drain, accept_many):
    workflow()
    accept_many(3)
    drain()
    before = versions()
    accept_many(20)
    drain()
    assert count("delivered") == 23
    assert versions() == before


def test_a_last_node_without_output_is_delivered(workflow, receiver, drain, accept):
    workflow(max_retries=0)
    receiver.always(500, '{"code":0,"message":"No item to return was found"}')
    made = accept()
    drain()
    made.refresh_from_db()
    assert made.state == "delivered"


# What our own settings cause ------------------------------------------------------------------------------------------

BAD = [
    ("auth_header", "X–Api–Key"),
    ("auth_header", "X-A:"),
    ("auth_header", "X-A\r\nHost"),
    ("auth_header", "Idempotency-Key"),
    ("auth_header", "X-Backstop-Delivery"),
    ("auth_header", "Host"),
    ("auth_header", "content-length"),
    ("signing_secret", "whsec_???"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_stored_value_that_cannot_be_sent_holds_its_own_lane_alone(
    workflow, receiver, drain, accept_many, lane_breaker, field, value
):
    made = workflow(auth_header="X-Auth", auth_value="s3cret")
    Workflow.objects.filter(pk=made.pk).update(**{field: value})  # as a version before this one stored it
    workflow("other")
    pending = accept_many(12)
    accept_many(2, workflow="other")
    drain()
    drain()
    assert [one.path for one in receiver.got] == ["/webhook/other"] * 2
    assert (count("pending"), Attempt.objects.filter(delivery__lane__workflow=made).count()) == (12, 0)
    assert ignores_success(instance())
    assert ignores_success(lane_breaker())
    found = waits_for(pending[0])
    assert (found.cause, found.detail.partition(":")[0]) == ("misconfigured", field)


def test_a_value_of_the_environment_that_cannot_be_sent_is_named(workflow, receiver, drain, accept, monkeypatch):
    monkeypatch.setenv("N8N_AUTH_ECHO", "two\nlines")
    workflow()
    made = accept()
    drain()
    assert receiver.got == []
    assert waits_for(made).detail.startswith("N8N_AUTH_ECHO: ")
    assert "two" not in waits_for(made).detail


def test_a_name_without_a_value_hinders_nothing(workflow, receiver, drain, accept):
    made = workflow()
    Workflow.objects.filter(pk=made.pk).update(auth_header="Host")
    accept()
    drain()
    assert len(receiver.got) == 1


def test_ours_go_before_a_workflow_s_header(workflow, receiver, drain, accept, monkeypatch):
    """Even one that the checks let through could not overwrite them."""
    monkeypatch.setattr(Workflow, "authentication", property(lambda self: {"idempotency-KEY": "stolen"}))
    workflow()
    made = accept()
    drain()
    assert [one.key for one in receiver.got] == [made.idempotency_key]


@pytest.mark.parametrize("change", ["path", "auth_header", "secret"])
def test_a_change_of_the_route_is_tried_at_once(workflow, receiver, workers, accept_many, lane_breaker, change):
    made = workflow(path="wrong", auth_header="X-Wrong", auth_value="wrong", circuit_breaker_recovery_ms=600_000)

    def rule(got):
        right = {
            "path": got.path.endswith("/right"),
            "auth_header": "x-right" in got.headers,
            "secret": "right" in got.headers.values(),
        }
        return Reply() if right[change] else TRAEFIK

    receiver.rule = rule
    accept_many(5)
    breaker = lane_breaker()
    Breaker.objects.filter(pk=breaker.pk).update(openings=20)  # open for long: by itself nothing goes for ten minutes
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    until(lambda: lane_breaker().state == "open", what="the lane's breaker to open")
    assert lane_breaker().next_probe_at - clock.now() > timedelta(minutes=5)
    if change == "secret":
        values = {"auth_value": "right"}
        workflow_secrets.keep(workflow_id=made.pk, values=values, actor=ACTOR, now=clock.now())
    else:
        document = {"path": "wrong", "slug": "echo", "name": "echo", "circuit_breaker_recovery_ms": 600_000}
        document |= {"path": "right"} if change == "path" else {"auth_header": "X-Right"}
        workflow_files.load(documents=[document], actor=ACTOR, now=clock.now())
    until(lambda: count("delivered") == 5, within=20, what="5 delivered")


def test_an_answer_of_the_old_route_says_nothing_of_the_new_one(workflow, receiver, workers, accept_many, lane_breaker):
    workflow(path="wrong", concurrency_limit=1, circuit_breaker_recovery_ms=600_000)
    receiver.rule = lambda got: Reply(404, "", wait=3) if got.path.endswith("wrong") else Reply()
    accept_many(3)
    Breaker.objects.filter(pk=lane_breaker().pk).update(openings=20)
    workers.start(N8N_WEBHOOK_URL=receiver.url)
    receiver.wait_for(1)
    document = {"path": "right", "slug": "echo", "name": "echo", "circuit_breaker_recovery_ms": 600_000}
    workflow_files.load(documents=[{**document, "concurrency_limit": 1}], actor=ACTOR, now=clock.now())
    until(lambda: count("delivered") == 3, within=20, what="3 delivered")
    assert lane_breaker().transitions.count() == 0


def test_what_cannot_be_sent_at_all_holds_its_lane_ever_longer_and_charges_nobody(
    workflow, receiver, drain, accept_many, lane_breaker, monkeypatch
):
    workflow(max_retries=0, concurrency_limit=3)
    send, broken = sending.send, [True]

    def attempt(claim, *, started_at):
        if not broken[0]:
            return send(claim, started_at=started_at)
        fault = classify_failure(Failure.LOCAL_FAULT, "REQUESTS_CA_BUNDLE: There is no such file.")
        return Sent(claim, fault, None, started_at, 0.0)

    monkeypatch.setattr(sending, "send", attempt)
    pending = accept_many(50)
    drain()
    lane = Lane.objects.get()
    assert (lane.fault, lane.fault_wait_ms) == ("REQUESTS_CA_BUNDLE: There is no such file.", 1000)
    assert Attempt.objects.filter(result="misconfigured_locally").count() == 3
    assert waits_for(pending[-1]).detail.startswith("REQUESTS_CA_BUNDLE")
    drain()
    assert Attempt.objects.count() == 3
    until(lambda: drain() or Attempt.objects.count() > 3, what="another try")
    assert Lane.objects.get().fault_wait_ms == 2000
    assert ignores_success(instance())
    assert ignores_success(lane_breaker())
    broken[0] = False
    until(lambda: drain() or count("delivered") == 50, what="50 delivered")
    assert Lane.objects.get().fault == ""
    assert not Delivery.objects.filter(retries_used__gt=0).exists()
