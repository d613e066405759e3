"""The screens of alerts, quiet periods and notices."""

from datetime import timedelta

import pytest

from reliability.alerts import notices
from reliability.core import clock
from reliability.models import Alert, AlertNotice, AlertSilence, AuditEntry
from reliability.policies.alerts import ChangeKind

from .test_console import NASTY, change, signed_in

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
LIST, QUIET = "/admin/reliability/alert/", "/admin/reliability/alertsilence/"


def text_of(page) -> str:
    return page.content.decode()


@pytest.fixture
def alert(settings):
    settings.ALERT_WEBHOOK_URL = "http://127.0.0.1:9/hook"
    now = clock.now()
    values = {"severity": "warning", "value": 900.0, "limit": 600.0, "firing_since": now - HOUR, "checked_at": now}
    made = Alert.objects.create(name="BacklogOld", workflow="echo", state="firing", summary=f"Old {NASTY}", **values)
    notices.write(told=[(made, ChangeKind.FIRING)], now=now)
    AlertNotice.objects.update(error="The webhook answered 500.", attempts=2)
    return made


def test_what_fires_comes_first_with_who_has_it_in_hand(alert):
    now = clock.now()
    values = {"severity": "warning", "value": 1, "limit": 0, "checked_at": now, "name": "BreakerOpen"}
    Alert.objects.create(**values, workflow="a", state="resolved", resolved_at=now)
    Alert.objects.create(**values, workflow="b", state="pending", pending_since=now)
    AlertSilence.objects.create(alert="BreakerOpen", until=now + HOUR, reason="x", created_at=now, created_by="user:a")
    page = signed_in("viewers").get(LIST)
    assert [one.workflow for one in page.context["cl"].result_list] == ["echo", "b", "a"]
    assert "silenced" in text_of(page)
    assert NASTY not in text_of(page)
    assert [one.workflow for one in signed_in("leads").get(LIST, {"q": "echo"}).context["cl"].result_list] == ["echo"]


def test_a_page_says_how_it_stands_what_was_told_and_how_that_went(alert):
    page = text_of(signed_in("viewers").get(change(Alert, alert.pk)))
    assert "firing, started 1 h ago" in page
    assert "15 min (alert if &gt; 10 min)" in page
    assert "The webhook answered 500." in page
    assert "docs/runbook.md#backlogold" in page
    assert ">Acknowledge<" not in page  # of a viewer
    notice = AlertNotice.objects.get()
    shown = text_of(signed_in("operators").get(change(AlertNotice, notice.pk)))
    assert "Firing: BacklogOld" in shown
    assert "Retrying" in text_of(signed_in("leads").get("/admin/reliability/alertnotice/"))


def test_operators_acknowledge_with_a_reason_and_an_end(alert):
    client = signed_in("operators")
    where = change(Alert, alert.pk, "acknowledge")
    assert "Backstop sends no reminders" in text_of(client.get(where))
    client.post(where, {"confirmed": "1", "reason": "", "lasts": "60"})
    alert.refresh_from_db()
    assert not alert.acknowledged
    client.post(where, {"confirmed": "1", "reason": "on it", "lasts": "60"})
    alert.refresh_from_db()
    assert (alert.acknowledged_by, alert.acknowledged_reason) == ("user:someone-operators", "on it")
    assert timedelta(minutes=59) < alert.acknowledged_until - clock.now() < timedelta(minutes=61)
    page = text_of(client.get(change(Alert, alert.pk)))
    assert "Acknowledged by" in page
    assert "acknowledge_alert" in page  # of the audit trail
    assert "The alert is not firing." not in page
    Alert.objects.update(state="resolved", resolved_at=clock.now())
    assert "The alert is not firing." in text_of(client.get(change(Alert, alert.pk)))


@pytest.mark.parametrize(("lasts", "begun"), [("60", 1), ("", 0)])
def test_an_alert_is_silenced_with_its_workflow_until_an_end(alert, workflow, lasts, begun):
    workflow()
    signed_in("operators").post(change(Alert, alert.pk, "silence"), {"confirmed": "1", "reason": "x", "lasts": lasts})
    assert list(AlertSilence.objects.values_list("alert", "workflow")) == [("BacklogOld", "echo")] * begun


@pytest.mark.parametrize(
    ("values", "begun"),
    [
        ({"alert": "BacklogOld", "workflow": "echo", "lasts": "60"}, True),
        ({"lasts": "", "until": "2099-01-31 12:00"}, True),
        ({"lasts": ""}, False),
        ({"lasts": "60", "reason": " "}, False),
        ({"lasts": "", "until": "2001-01-01 12:00"}, False),
        ({"lasts": "60", "workflow": "none"}, False),
        ({"lasts": "60", "alert": "Nonsense"}, False),
    ],
)
def test_a_quiet_period_is_begun_by_its_form(workflow, values, begun):
    workflow()
    client = signed_in("operators")
    assert "Duration" in text_of(client.get(f"{QUIET}add/"))
    client.post(f"{QUIET}add/", {"reason": "a move", **values})
    found = AlertSilence.objects.all()
    assert len(found) == begun
    if begun:
        assert (found[0].created_by, found[0].reason) == ("user:someone-operators", "a move")
        assert AuditEntry.objects.get().action == "silence_alerts"


def test_a_quiet_period_is_ended(db):
    now = clock.now()
    made = AlertSilence.objects.create(until=now + HOUR, reason=NASTY, created_at=now, created_by="user:a")
    client = signed_in("operators")
    assert NASTY not in text_of(client.get(QUIET))
    assert client.get(change(AlertSilence, made.pk)).status_code == 200
    client.post(change(AlertSilence, made.pk, "end"), {"confirmed": "1", "reason": "done"})
    made.refresh_from_db()
    assert made.until <= clock.now()
    for choice, count in {"on": 0, "over": 1, "nonsense": 0}.items():
        assert len(client.get(QUIET, {"is": choice}).context["cl"].result_list) == count


def test_viewers_only_look(alert):
    client = signed_in("viewers")
    for where in (change(Alert, alert.pk, "acknowledge"), change(Alert, alert.pk, "silence"), f"{QUIET}add/"):
        assert client.post(where, {"confirmed": "1", "reason": "x", "lasts": "60"}).status_code == 403
    assert not AlertSilence.objects.exists()


def test_the_sidebar_says_how_many_fire(alert):
    groups = signed_in("viewers").get("/admin/").context["sidebar_navigation"]
    (entry,) = [item for group in groups for item in group["items"] if item["title"] == "Alerts"]
    assert (entry["badge"], entry["badge_variant"]) == ("1", "danger")
