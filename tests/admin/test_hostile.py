"""What people, browsers and strangers send to the console that makes no sense: nothing breaks, and nothing is done."""

import pytest

from reliability.models import Workflow

from .test_console import change, signed_in

# Beyond what a moment in UTC can be: it would be kept, and no page could read it again.
BEYOND = ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00")


@pytest.mark.parametrize("text", [*BEYOND, "2999-01-01T00:00+99:00", "2026-13-01", "31.12.2999"])
def test_a_pause_without_an_end_that_can_be_read_is_refused(workflow, text):
    workflow()
    pause = change(Workflow, Workflow.objects.get().pk, "pause")
    answer = signed_in().post(pause, {"confirmed": "1", "reason": "a test", "until": text})
    assert "A moment is needed" in answer.content.decode()
    assert Workflow.objects.values_list("paused", "paused_until").get() == (False, None)


def test_a_pause_may_end_as_late_as_a_moment_can(workflow):
    workflow()
    client = signed_in()
    pause = change(Workflow, Workflow.objects.get().pk, "pause")
    assert client.post(pause, {"confirmed": "1", "reason": "a test", "until": "9999-12-31 23:59"}).status_code == 302
    assert [client.get(path).status_code for path in ("/admin/", "/admin/reliability/workflow/")] == [200, 200]
