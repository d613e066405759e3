"""Which dead letters a filter means; what a search finds, and when it says that it did not look everywhere."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.core import clock
from reliability.dead_letters import filters
from reliability.dead_letters.filters import DeadLetterFilter
from reliability.lanes import opening
from reliability.models import DeadLetter, error_fields, ids

pytestmark = pytest.mark.django_db


@pytest.fixture
def letter(workflow):
    lane = opening.open_lane(workflow_id=workflow().pk, tenant="default")

    def make(message="No client 1", *, code="http_500", at=None, **values):
        now = at or clock.now()
        fields = {"lane": lane, "source": "api", "payload": "{}", "created_at": now, "died_at": now}
        kind = error_fields(code=code, message=message)
        return DeadLetter.objects.create(**{**fields, "expires_at": now, **kind, **values})

    return make


def matches(**values):
    """What bulk operations act on, and a list shows: the same."""
    wanted = DeadLetterFilter(**values)
    found = wanted.found()
    assert not found.is_truncated
    assert set(found.rows) == set(wanted.matching())
    return set(found.rows)


def test_by_reason_and_fingerprint(letter):
    one, two = letter("No client 1"), letter("No client 2")
    slow = letter("No client 2", code="read_timeout")
    gone = letter("No client 3", status="purged")
    assert matches(reason="http_5xx") == {one, two, gone}
    assert matches(reason="timeout") == {slow}
    assert matches(fingerprint=one.fingerprint, status="dead") == {one, two}
    wanted = DeadLetterFilter(reason="timeout", fingerprint="f", created_after=clock.now())
    assert DeadLetterFilter.from_json(wanted.as_json()) == wanted


def test_by_time(letter):
    now = clock.now()
    day = timedelta(days=1)
    made = [letter(at=now - n * day, id=UUID(int=ids.at_least(now - n * day + ids.SKEW).int + n)) for n in range(6)]
    assert matches(created_after=now - 2 * day) == set(made[:3])
    assert matches(created_before=now - 2 * day) == set(made[3:])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda one: str(one.pk), id="its id"),
        pytest.param(lambda one: str(one.pk).upper().replace("-", ""), id="without dashes"),
        pytest.param(lambda one: str(one.pk)[:25], id="its beginning"),
        pytest.param(lambda one: str(one.delivery_id), id="its delivery's id"),
        pytest.param(lambda one: str(one.delivery_id)[:23], id="that one's beginning"),
        pytest.param(lambda one: "evt_1", id="Stripe's event"),
        pytest.param(lambda one: "4711", id="its execution"),
        pytest.param(lambda one: "Printer_Jam", id="its code"),
        pytest.param(lambda one: one.fingerprint, id="its fingerprint"),
        pytest.param(lambda one: "out of PAPER", id="its error"),
        pytest.param(lambda one: "100% \\_", id="signs that mean something elsewhere"),
    ],
)
def test_a_search_finds_it_by(letter, accept, text):
    values = {"delivery": accept(idempotency_key="evt_1"), "execution_id": "4711"}
    wanted = letter("Out of paper, 100% \\_", code="printer_jam", **values)
    letter("Something else", id=UUID(int=7))
    letter("Something else", execution_id="471", delivery=accept(idempotency_key="evt_12"))
    assert matches(search=text(wanted)) == {wanted}
    assert matches(search=text(wanted), status="recovered") == set()


def test_the_beginning_of_an_id_is_a_range_of_ids(letter):
    made = [letter(id=UUID(f"0199a3b4-0000-7000-8000-{n:012x}")) for n in (0, 0xFF, 0x100)]
    letter(id=UUID("0199a3b5-0000-7000-8000-000000000000"))
    assert matches(search="0199a3b4") == set(made)
    assert matches(search="0199A3B4-0000-7000-8000-0000000000") == set(made[:2])
    assert matches(search="0199a") == set()  # too short for an id, and in no error


def test_no_search_is_confused_by_what_is_no_id(letter):
    letter()
    for text in ("zzzzzzzz", "-", "--------", "0" * 40, "'; --", "\\x00", "%"):
        assert matches(search=text) == set()


def test_a_search_reads_the_newest_errors_and_says_that_there_are_older_ones(letter, monkeypatch):
    made = [letter(f"No client {n}", execution_id=f"x{n}") for n in range(5)]
    monkeypatch.setattr(filters, "ERRORS_READ", 3)
    found = DeadLetterFilter(search="client").found()
    assert (set(found.rows), found.is_truncated) == (set(made[2:]), True)
    by_index = DeadLetterFilter(search="x0").found()
    assert (set(by_index.rows), by_index.is_truncated) == ({made[0]}, True)
    assert not DeadLetterFilter(search=str(made[0].pk)).found().is_truncated
    assert set(DeadLetterFilter(search="client").matching()) == set(made)
    monkeypatch.setattr(filters, "ERRORS_READ", 5)
    assert not DeadLetterFilter(search="client").found().is_truncated


def test_a_search_shows_so_many_matches(letter, monkeypatch):
    made = [letter() for _ in range(4)]
    monkeypatch.setattr(filters, "MATCHES_SHOWN", 3)
    found = DeadLetterFilter(search="client").found()
    assert (set(found.rows), found.is_truncated) == (set(made[1:]), True)


def test_a_search_takes_few_queries(letter):
    letter()
    with CaptureQueriesContext(connection) as caught:
        list(DeadLetterFilter(search="client").found().rows)
    assert len(caught) <= 5, [one["sql"] for one in caught]


def test_the_api_filters_by_kind_and_says_when_a_search_was_cut(letter, api, monkeypatch):
    made = [letter(f"No client {n}") for n in range(3)]
    url = "/api/v1/dead-letters/"
    assert len(api.get(f"{url}?reason=http_5xx").json()["results"]) == 3
    assert api.get(f"{url}?reason=timeout").json()["results"] == []
    assert len(api.get(f"{url}?fingerprint={made[0].fingerprint}").json()["results"]) == 3
    assert api.get(f"{url}?reason=bad").status_code == 400
    shown = api.get(f"{url}?search=client").json()
    assert shown["search_cut"] is False
    assert (shown["results"][0]["reason"], shown["results"][0]["fingerprint"]) == ("http_5xx", made[0].fingerprint)
    monkeypatch.setattr(filters, "ERRORS_READ", 1)
    assert api.get(f"{url}?search=client").json()["search_cut"] is True
    assert "search_cut" not in api.get(url).json()
