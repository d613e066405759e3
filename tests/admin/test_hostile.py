"""What people, browsers and strangers send to the console that makes no sense: nothing breaks, and nothing is done."""

import pytest
from django.contrib.admin import site
from django.urls import reverse

from reliability.models import Workflow
from reliability.pipeline import burial, clock

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


LISTS = [model for model in site._registry if model._meta.app_label in ("reliability", "scheduling")]


def where(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def rows(workflow, accept):
    """A delivery that waits, and a dead letter."""
    workflow(paused=True)
    workflow(slug="other")  # a filter with nothing to choose from is none
    accept(idempotency_key="a-key")
    report = burial.Report(workflow="echo", tenant="default", payload="{}", error_code="E1", error_message="no")
    return burial.report(report=report, now=clock.now())


@pytest.mark.parametrize("model", LISTS, ids=lambda model: model.__name__)
def test_a_filter_that_makes_no_sense_is_told_so_and_matches_nothing(rows, model):
    client = signed_in()
    wrong = [{"nonsense": "1"}, {"q": "a\x00b"}]
    filters = [one for one in site._registry[model].list_filter if isinstance(one, str)]
    wrong += [{f"{name}__exact": "a\x00b"} for name in filters]
    for params in wrong:
        answer = client.get(where(model), params, follow=True)
        assert answer.status_code == 200, params
        assert not answer.context["cl"].result_list, params
        told = ("matches nothing", "is not a filter", "cannot be stored")
        assert any(text in answer.content.decode() for text in told), params


@pytest.mark.parametrize(
    "params", [{"lane__workflow__id__exact": "no-id"}, {"state__exact": "a\x00"}, {"scope__in": "\x00"}]
)
def test_a_filter_by_what_no_row_can_hold_does_not_show_all(rows, params):
    answer = signed_in().get("/admin/reliability/breaker/", params, follow=True)
    assert (answer.status_code, list(answer.context["cl"].result_list)) == (200, [])


def test_what_completes_a_field_finds_nothing_for_what_cannot_be_stored(rows):
    asked = {"app_label": "scheduling", "model_name": "cronjob", "field_name": "workflows", "term": "a\x00"}
    answer = signed_in().get("/admin/autocomplete/", asked)
    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize(
    "params",
    [
        "workflow=%20",
        "fingerprint=%09",
        "after=%20%20",
        "q=%20",
        "status__exact=%20",
        "next=junk",
        "prev=0",
        "p=5",
        "e=1",
    ],
)
def test_blank_filters_and_places_that_are_none_match_no_dead_letter(rows, params):
    client = signed_in()
    for path in ("deadletter/", "operation/replay/", "operation/purge/"):
        answer = client.get(f"/admin/reliability/{path}?{params}")
        assert 'role="alert"' in answer.content.decode()
    assert not client.get(f"/admin/reliability/deadletter/?{params}").context["cl"].result_list
