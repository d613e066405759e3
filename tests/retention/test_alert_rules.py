"""What is over goes after its time; what fires, and what is not yet told, stays."""

from datetime import timedelta

import pytest

from reliability.core import clock
from reliability.models import Alert, AlertNotice, AlertSilence, ids
from reliability.retention import runner

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.mark.parametrize(("age", "left"), [(89, 5), (91, 2)])
def test_what_is_over_goes(age, left):
    now = clock.now()
    then = now - age * DAY
    values = {"name": "BacklogOld", "severity": "warning", "value": 1, "limit": 1, "checked_at": now}
    Alert.objects.create(**values, workflow="a", state="firing", firing_since=then)
    Alert.objects.create(**values, workflow="b", state="resolved", resolved_at=then)
    AlertSilence.objects.create(until=then, reason="x", created_at=then, created_by="user:a")
    for state in ("waiting", "sent"):
        pk = ids.at_least(then) if state == "sent" else ids.uuid7()
        AlertNotice.objects.create(id=pk, channel="mail", state=state, created_at=then, next_at=then)
    done = {one.name: one.rows for one in runner.cleanup(now=now)}
    counts = Alert.objects.count() + AlertSilence.objects.count() + AlertNotice.objects.count()
    assert counts == left
    assert done["alerts"] + done["alert_silences"] + done["alert_notices"] == 5 - left
