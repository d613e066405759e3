"""The bulk pages: the dry run, what is signed and typed, who may, and the hand on what runs."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.test import Client

from reliability.admin.bulk import submit as pages
from reliability.bulk import operations, steps
from reliability.core import clock
from reliability.lanes import opening
from reliability.models import AuditEntry, DeadLetter, Delivery, Operation

pytestmark = pytest.mark.django_db
REPLAY, PURGE = "/admin/reliability/operation/replay/", "/admin/reliability/operation/purge/"
NASTY = "</script><img src=x onerror=alert(1)>"
VIEWER = ("view_operation", "view_deadletter")
OPERATOR = (*VIEWER, "replay_deadletter", "control_operation")
LEAD = (*OPERATOR, "purge_deadletter")


def person(*permissions: str, name: str = "anna") -> tuple[Client, User]:
    user = User.objects.create_user(name, password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def letters(workflow):
    """Make dead letters of one kind."""

    def make(count: int = 3, *, slug: str = "echo", **values) -> list[DeadLetter]:
        from reliability.models import Workflow

        made = Workflow.objects.filter(slug=slug).first() or workflow(slug, paused=True)
        lane, now = opening.open_lane(workflow_id=made.pk, tenant="default"), clock.now()
        moments = {"created_at": now, "died_at": now, "expires_at": now + timedelta(days=1)}
        plain = {"source": "api", "error_code": "http_500", "reason": "http_5xx", "error_message": NASTY}
        return DeadLetter.objects.bulk_create(
            DeadLetter(lane=lane, payload=f'{{"n": {n}}}', **{**plain, **moments, **values}) for n in range(count)
        )

    return make


def answer(client: Client, where: str = REPLAY, query: str = "", **values):
    """Look at the page, and post what it showed."""
    page = client.get(where + query)
    assert page.status_code == 200, page.content
    shown = {"shown": page.context["shown"], "reason": "the vendor is back", "rate": "10", "canary": "", **values}
    return client.post(where + query, shown), shown


def test_the_dry_run_says_all_and_changes_nothing(letters):
    letters(6)
    letters(2, slug="other", reason="timeout")
    letters(1, source="n8n", execution_id="")
    client, _ = person(*OPERATOR)
    page = client.get(REPLAY, {"workflow": "echo"})
    text = re.sub(r"\s+", " ", page.content.decode())
    assert (page.context["looked"].matched, page.context["looked"].will) == (7, 6)
    assert "workflow: <b><bdi>echo</bdi></b>" in text
    assert "<dt>Matches</dt><dd>7</dd>" in text
    assert "<dt>Skipped</dt><dd>1</dd>" in text
    assert "1: reported by n8n without an execution" in text
    assert "HTTP 5xx" in text
    assert "<dt>Estimated time</dt><dd>1 s</dd>" in text
    assert text.count(f"/admin/reliability/deadletter/{DeadLetter.objects.order_by('id')[0].pk}/change/") == 1
    assert len(page.context["looked"].samples) == 5
    assert NASTY not in text
    assert "http_500" in text
    assert not Operation.objects.exists()
    assert not AuditEntry.objects.exists()


def test_an_answer_starts_it_as_it_was_shown(letters):
    letters(3)
    client, _ = person(*OPERATOR)
    page = client.get(REPLAY)
    letters(2)  # what dies meanwhile was not seen
    response = client.post(
        REPLAY,
        {"shown": page.context["shown"], "reason": "vendor", "rate": "2.5", "canary": "on", "stop_at": "30"},
    )
    operation = Operation.objects.get()
    assert response.status_code == 302
    assert response["Location"] == f"/admin/reliability/operation/{operation.pk}/"
    assert (operation.matched, operation.rate_per_second, operation.canary) == (3, 2.5, True)
    assert (operation.stop_failure_rate, operation.actor, operation.reason) == (0.3, "user:anna", "vendor")
    assert operation.cutoff < operation.created_at
    assert operation.filter == {"status": "dead"}
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.count, entry.reason) == ("bulk_replay", 3, "vendor")


def test_posted_twice_it_is_one(letters):
    letters(3)
    client, _ = person(*OPERATOR)
    first, shown = answer(client)
    second = client.post(REPLAY, shown)
    assert first["Location"] == second["Location"]
    assert Operation.objects.count() == AuditEntry.objects.count() == 1


def test_two_people_at_once_replay_each_once(letters):
    letters(4)
    one, two = person(*OPERATOR)[0], person(*OPERATOR, name="bert")[0]
    pages_ = [client.get(REPLAY) for client in (one, two)]
    for client, page in zip((one, two), pages_, strict=True):
        assert client.post(REPLAY, {"shown": page.context["shown"], "reason": "x", "rate": "100"}).status_code == 302
    assert "Another operation is running" in one.get(REPLAY).content.decode()
    for operation in Operation.objects.order_by("id"):
        now = clock.now()
        while (now := steps.step(operation_id=operation.pk, now=now)) is not None:
            pass
    assert Delivery.objects.filter(source="replay").count() == 4
    done = Operation.objects.order_by("id").values_list("actor", "done", "skipped")
    assert list(done) == [("user:anna", 4, 0), ("user:bert", 0, 4)]


@pytest.mark.parametrize(
    ("where", "count", "typed", "starts"),
    [
        (REPLAY, 100, None, True),
        (REPLAY, 101, None, False),
        (REPLAY, 101, "100", False),
        (REPLAY, 101, "all", False),
        (REPLAY, 101, "101", True),
        (REPLAY, 1001, "1,001", True),
        (PURGE, 1, None, False),
        (PURGE, 1, "2", False),
        (PURGE, 1, "1", True),
    ],
)
def test_the_count_is_typed(letters, where, count, typed, starts):
    letters(count)
    client, _ = person(*LEAD)
    response, _ = answer(client, where, **({} if typed is None else {"typed": typed}))
    assert response.status_code == (302 if starts else 400)
    assert Operation.objects.count() == int(starts)
    if not starts:
        assert f"Type {count} to confirm" in response.content.decode()


@pytest.mark.parametrize(
    "query",
    [
        "?after=yesterday",
        "?before=2026-13-45",
        "?status__exact=nonsense",
        "?reason=because",
        "?source=nobody",
        "?nonsense=1",
        "?workflow=a&workflow=b",
        "?q=%00",
        "?created_at__gte=2026-01-01",
        "?after=2026-02-01&before=2026-01-01",
    ],
)
@pytest.mark.parametrize("where", [REPLAY, PURGE])
def test_a_filter_that_cannot_be_read_matches_nothing_and_says_so(letters, where, query):
    letters(3)
    client, _ = person(*LEAD)
    page = client.get(where + query)
    text = page.content.decode()
    assert page.status_code == 400
    assert "The filter is invalid, so it matches nothing" in text
    assert '<form method="post"' not in text.split('class="bs-bulk"')[1]
    assert client.post(where + query, {"reason": "x", "rate": "5"}).status_code == 302
    assert not Operation.objects.exists()


@pytest.mark.parametrize(("field", "value"), [("rate", "0"), ("rate", "1001"), ("rate", "fast"), ("rate", ""),
    ("stop_at", "101"), ("stop_at", "-1"), ("reason", " "), ("reason", "x" * 501)])  # fmt: skip
def test_an_answer_that_makes_no_sense_asks_again(letters, field, value):
    letters(3)
    client, _ = person(*OPERATOR)
    response, _ = answer(client, **{field: value})
    assert response.status_code == 400
    assert 'role="alert"' in response.content.decode()
    assert not Operation.objects.exists()


def test_what_was_shown_is_signed_for_one_person_one_page_and_an_hour(letters, monkeypatch):
    letters(3)
    client, _ = person(*LEAD)
    other, _ = person(*LEAD, name="bert")
    shown = client.get(REPLAY).context["shown"]
    values = {"reason": "x", "rate": "5", "typed": "3"}
    for who, where, text in ((other, REPLAY, shown), (client, PURGE, shown), (client, REPLAY, shown + "x")):
        response = who.post(where, {**values, "shown": text})
        assert response.status_code == 302
        assert response["Location"] == where
    forged = signing.dumps(["x"], salt="another")
    client.post(REPLAY, {**values, "shown": forged})
    monkeypatch.setattr(pages, "HOUR", -1)
    client.post(REPLAY, {**values, "shown": shown})
    assert not Operation.objects.exists()
    answer = client.get(REPLAY).content.decode()
    assert "Nothing was changed: the page was over an hour old" in answer


def test_what_came_back_meanwhile_is_not_hit_unseen(letters):
    made = letters(3)
    DeadLetter.objects.filter(pk=made[0].pk).update(status="replaying")
    client, _ = person(*OPERATOR)
    page = client.get(REPLAY)
    DeadLetter.objects.filter(pk=made[0].pk).update(status="dead")
    response = client.post(REPLAY, {"shown": page.context["shown"], "reason": "x", "rate": "5"})
    assert response["Location"] == REPLAY
    assert not Operation.objects.exists()


def test_rights_are_asked_for_at_each_request(letters):
    letters(3)
    viewer, _ = person(*VIEWER, name="vera")
    operator, user = person(*OPERATOR)
    for where, permission in ((REPLAY, "replay_deadletter"), (PURGE, "purge_deadletter")):
        refused = viewer.get(where)
        assert refused.status_code == 403
        assert f"reliability.{permission}" in refused.content.decode()
    assert operator.get(PURGE).status_code == 403
    page = operator.get(REPLAY)
    user.user_permissions.remove(Permission.objects.get(codename="replay_deadletter"))
    shown = {"shown": page.context["shown"], "reason": "x", "rate": "5"}
    assert operator.post(REPLAY, shown).status_code == 403
    assert not Operation.objects.exists()


def test_a_session_that_has_ended_leads_back_to_the_same_filter(letters):
    letters(3)
    client, _ = person(*OPERATOR)
    page = client.get(REPLAY, {"workflow": "echo"})
    client.logout()
    answered = client.post(f"{REPLAY}?workflow=echo", {"shown": page.context["shown"], "reason": "x", "rate": "5"})
    assert answered.status_code == 302
    assert answered["Location"].startswith("/admin/login/?next=")
    assert "workflow%3Decho" in answered["Location"]
    assert not Operation.objects.exists()


def test_nothing_to_do_has_no_button(letters, workflow):
    client, _ = person(*OPERATOR)
    page = client.get(REPLAY).content.decode()
    assert "No dead letter matches this filter." in page
    letters(2, source="n8n", execution_id="")
    page = client.get(REPLAY)
    assert "None of the matches can be replayed" in page.content.decode()
    assert 'name="shown"' not in page.content.decode()


@pytest.fixture
def running(letters):
    letters(40)
    client, _ = person(*OPERATOR)
    answer(client, rate="5", stop_at="25")
    return Operation.objects.get()


def where(operation: Operation, suffix: str = "") -> str:
    return f"/admin/reliability/operation/{operation.pk}/{suffix}"


def test_the_page_of_one_that_runs(running):
    steps.step(operation_id=running.pk, now=clock.now())
    one = running.deliveries.first()
    Delivery.objects.filter(pk=one.pk).update(state="dead")
    client, _ = person(*VIEWER, name="vera")
    page = client.get(where(running))
    text = re.sub(r"\s+", " ", page.content.decode())
    assert '<progress max="40" value="5"' in text
    assert 'data-poll="swap" data-running' in text
    assert '<dd id="bs-failed">1</dd>' in text
    assert "7 s" in text  # 35 are left, at 5 a second
    assert "stops when more than 25 %" in text
    assert "you need the permission reliability.control_operation" in text
    assert 'value="pause"' not in text
    assert client.get(where(running, "change/")).status_code == 200
    assert client.get("/admin/reliability/operation/").status_code == 200
    assert client.get("/admin/reliability/operation/01890a5d-ac96-774b-bcce-b302099a8057/").status_code == 404
    assert client.get("/admin/reliability/operation/nonsense/change/").status_code == 404


def test_the_hand_on_it(running):
    client, _ = person(*OPERATOR, name="otto")

    def press(verb, **values):
        answered = client.post(where(running, "control/"), {"verb": verb, "reason": "because", **values})
        running.refresh_from_db()
        return answered.status_code, running.state

    assert press("pause") == (302, "paused")
    assert press("pause") == (302, "paused")
    assert "Can&#x27;t pause: already paused." in client.get(where(running)).content.decode()
    assert press("rate", rate="25") == (302, "paused")
    assert running.rate_per_second == 25
    assert press("rate", rate="nan") == (400, "paused")
    assert press("rate", rate="0") == (400, "paused")
    assert press("resume") == (302, "running")
    assert press("cancel", reason=" ") == (400, "running")
    assert press("cancel") == (302, "cancelled")
    assert press("nonsense")[0] == 404
    actions = ("pause_operation", "set_operation_rate", "resume_operation", "cancel_operation")
    entries = AuditEntry.objects.filter(action__in=actions).order_by("id")
    assert tuple(entries.values_list("action", flat=True)) == actions
    assert set(entries.values_list("actor", "reason")) == {("user:otto", "because")}


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "rate", "undo"])
def test_the_hand_needs_its_permission_and_a_post(running, verb):
    client, _ = person(*VIEWER, "replay_deadletter", name="vera")
    assert client.post(where(running, "control/"), {"verb": verb, "reason": "x", "rate": "9"}).status_code == 403
    assert client.get(where(running, "control/") + f"?verb={verb}").status_code == 302
    running.refresh_from_db()
    assert (running.state, running.rate_per_second) == ("running", 5)


def test_a_form_forged_elsewhere_is_refused(running):
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="anna"))
    assert client.post(where(running, "control/"), {"verb": "cancel", "reason": "x"}).status_code == 403
    assert client.post(REPLAY, {"shown": "x"}).status_code == 403


def test_a_bulk_purge_is_undone_from_its_page(letters):
    letters(5)
    client, _ = person(*LEAD)
    answer(client, PURGE, typed="5")
    purge = Operation.objects.get()
    now = clock.now()
    while (now := steps.step(operation_id=purge.pk, now=now)) is not None:
        pass
    page = client.get(where(purge)).content.decode()
    assert "Undo purge of 5" in page
    answered = client.post(where(purge, "control/"), {"verb": "undo", "reason": "the wrong ones"})
    undo = Operation.objects.exclude(pk=purge.pk).get()
    assert answered["Location"] == where(undo)
    assert undo.kind == "restore"
    now = clock.now()
    while (now := steps.step(operation_id=undo.pk, now=now)) is not None:
        pass
    assert DeadLetter.objects.filter(status="dead").count() == 5
    assert "Restored" in client.get(where(undo)).content.decode()
    assert operations.undoable(operation=purge, now=clock.now()) == 0


def test_pages_take_few_queries(letters, django_assert_max_num_queries):
    letters(30)
    client, _ = person(*OPERATOR)
    for n in range(6):
        Operation.objects.create(kind="replay", cutoff=clock.now(), created_at=clock.now(), actor=f"a{n}")
    one = Operation.objects.first()
    for address in (REPLAY, where(one), "/admin/reliability/operation/"):
        with django_assert_max_num_queries(15):
            assert client.get(address).status_code == 200
