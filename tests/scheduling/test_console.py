"""The console's screens of cron jobs."""

import pytest

from reliability.models import AuditEntry, Delivery
from scheduling.models import CronJob, Ping, Run

from ..admin.test_console import signed_in
from .conftest import runs

pytestmark = pytest.mark.django_db


def change(job, verb="change") -> str:
    return f"/admin/scheduling/cronjob/{job.pk}/{verb}/"


@pytest.mark.parametrize("model", [CronJob, Run, Ping], ids=lambda model: model.__name__)
def test_every_list_opens_searches_and_shows_one(job, post, model):
    job(name="<script>alert(1)</script>", schedule="0 9 * * MON", catch_up="all")
    post()
    client = signed_in("viewers")
    where = f"/admin/scheduling/{model._meta.model_name}/"
    for query in ({}, {"q": "recap"}, {"q": "nothing of the kind"}):
        assert client.get(where, query).status_code == 200
    row = model.objects.order_by("-pk").first()
    page = client.get(f"{where}{row.pk}/change/")
    assert page.status_code == 200
    assert "<script>alert(1)" not in page.content.decode()


def test_the_list_says_how_each_job_stands(job, post, django_assert_max_num_queries):
    for number in range(8):
        job(f"job-{number}", schedule="0 9 * * MON")
    post("job-3")
    client = signed_in("viewers")
    client.get("/admin/scheduling/run/")  # the session's use is written down once a minute
    with django_assert_max_num_queries(15):
        page = client.get("/admin/scheduling/cronjob/").content.decode()
    assert "Missing" in page
    assert "0 9 * * MON (UTC)" in page


def test_an_answer_that_is_given_twice_runs_a_job_once(job):
    made = job(overlap="queue")
    client = signed_in("operators")
    question = client.get(change(made, "run")).context["form"]
    answer = {"confirmed": "1", "reason": "a customer waits", "once": str(question["once"].value())}
    client.post(change(made, "run"), answer)
    again = client.post(change(made, "run"), answer, follow=True)
    assert "is a repeat" in again.content.decode()
    assert len(runs(made)) == Delivery.objects.count() == AuditEntry.objects.count() == 1


def test_a_job_is_run_disabled_and_enabled_by_hand(job):
    made = job()
    client = signed_in("operators")
    client.post(change(made, "run"), {"confirmed": "1", "reason": "a customer waits"})
    assert [one.key.partition(":")[0] for one in runs(made)] == ["manual"]
    assert Delivery.objects.count() == 1
    again = client.post(change(made, "run"), {"confirmed": "1", "reason": "again"}, follow=True)
    assert "The previous run of this cron job has not ended" in again.content.decode()
    client.post(change(made, "disable"), {"confirmed": "1", "reason": "release"})
    made.refresh_from_db()
    assert (made.enabled, made.disabled_reason) == (False, "release")
    client.post(change(made, "enable"), {"confirmed": "1", "reason": "released"})
    made.refresh_from_db()
    assert made.enabled
    actions = AuditEntry.objects.order_by("id").values_list("action", "reason")
    assert list(actions) == [
        ("run_cron_job", "a customer waits"),
        ("disable_cron_job", "release"),
        ("enable_cron_job", "released"),
    ]


@pytest.mark.parametrize(("group", "may"), [("viewers", False), ("operators", True), ("leads", True)])
def test_each_action_has_its_own_permission(job, group, may):
    made = job()
    client = signed_in(group)
    for verb in ("run", "enable", "disable"):
        assert client.get(change(made, verb)).status_code == (200 if may else 403)
    assert client.get("/admin/scheduling/cronjob/add/").status_code == (200 if group == "leads" else 403)


def test_a_job_is_made_and_changed(workflow):
    client = signed_in("leads")
    values = {
        "slug": "nightly",
        "name": "Nightly",
        "tenant": "default",
        "payload": "{}",
        "workflows": [str(workflow().pk)],
        "schedule": "0 25 * * *",
        "timezone": "UTC",
        "grace_seconds": "300",
        "overlap": "skip",
        "catch_up": "none",
        "reason": "a test",
    }
    refused = client.post("/admin/scheduling/cronjob/add/", values)
    assert "is not a cron expression" in refused.content.decode()
    reboot = client.post("/admin/scheduling/cronjob/add/", {**values, "schedule": "@reboot"})
    assert "@reboot is not supported" in reboot.content.decode()
    client.post("/admin/scheduling/cronjob/add/", {**values, "schedule": "0 0 3 ? * *"})
    assert CronJob.objects.get(slug="nightly").schedule == "0 0 3 ? * *"
    job = CronJob.objects.get(slug="nightly")
    assert [one.slug for one in job.workflows.all()] == ["echo"]
    CronJob.objects.update(health="ok", enabled=False)
    client.post(change(job), {**values, "schedule": "0 4 * * *", "workflows": []})
    after = CronJob.objects.get(slug="nightly")
    assert (after.schedule, after.health, after.enabled, after.workflows.count()) == ("0 4 * * *", "ok", False, 0)
    assert after.active_since > job.active_since
    assert {"workflows", "schedule"} <= set(AuditEntry.objects.get(action="change_cron_job").details["fields"])


def test_what_happened_is_not_changed_by_hand(job, post):
    made = job()
    post()
    client = signed_in()
    for model in (Run, Ping):
        where = f"/admin/scheduling/{model._meta.model_name}/{model.objects.get().pk}/"
        assert client.post(f"{where}delete/", {"post": "yes"}).status_code == 403
        assert client.get(f"/admin/scheduling/{model._meta.model_name}/add/").status_code == 403
    assert client.post(change(made, "delete"), {"post": "yes"}).status_code == 403


def test_a_help_text_is_text(db):
    assert "POST /cron/&lt;slug&gt;/" in signed_in().get("/admin/scheduling/cronjob/add/").content.decode()


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"payload": "[" * 100_000}, 200),
        ({"payload": '{"a": "\\ud800"}'}, 200),
        ({"payload": '{"a": "\\u0000"}'}, 200),
        ({"payload": "1" * 5000}, 200),
        ({"workflows": ["junk"]}, 400),
        ({"workflows": ["\x00"]}, 400),
    ],
)
def test_a_form_of_nonsense_makes_no_job(workflow, values, status):
    sound = {
        "slug": "nightly",
        "name": "N",
        "tenant": "default",
        "payload": "{}",
        "timezone": "UTC",
        "reason": "a test",
    }
    sound |= {"schedule": "0 3 * * *", "grace_seconds": "300", "overlap": "skip", "catch_up": "none"}
    sound["workflows"] = [str(workflow().pk)]
    client = signed_in("leads")
    assert client.post("/admin/scheduling/cronjob/add/", sound | values).status_code == status
    assert not CronJob.objects.filter(slug="nightly").exists()
    assert client.post("/admin/scheduling/cronjob/add/", sound).status_code == 302
