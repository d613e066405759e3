"""Reads are repeated where they failed for a moment, within a limit; what changes something is asked for once."""

import time

import pytest

from reliability.core import clock
from reliability.errors import ConfigurationError, Unavailable
from reliability.n8n import client as n8n_client
from reliability.stripe import reconcile as stripe_reconcile
from reliability.transport import repeated_reads
from reliability.transport.repeated_reads import repeated

from ..support import stripe
from ..support.n8n_api import KEY, FakeN8n


class Passing(Exception):
    """For a moment."""


def failing(times, error=Passing):
    calls = []

    def read(seconds):
        calls.append(seconds)
        if len(calls) <= times:
            raise error
        return "found"

    return read, calls


@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_fails_for_a_moment_is_read_again(times):
    read, calls = failing(times)
    assert repeated(read, on=Passing, seconds=30) == "found"
    assert len(calls) == times + 1
    assert calls == sorted(calls, reverse=True)  # each try has what is left
    assert calls[0] <= 30


def test_it_ends_with_the_last_error():
    read, calls = failing(99)
    with pytest.raises(Passing):
        repeated(read, on=Passing, seconds=30)
    assert len(calls) == repeated_reads.TRIES


def test_what_does_not_pass_and_what_is_another_error_is_raised_at_once():
    for given in ({"is_transient": lambda _: False, "on": Passing}, {"on": ValueError}):
        read, calls = failing(1)
        with pytest.raises(Passing):
            repeated(read, seconds=30, **given)
        assert len(calls) == 1


def test_a_read_that_hangs_is_not_begun_again():
    calls = []

    def read(seconds):
        calls.append(seconds)
        time.sleep(seconds)
        raise Passing

    with pytest.raises(Passing):
        repeated(read, on=Passing, seconds=0.3)
    assert len(calls) == 1


@pytest.fixture
def n8n(settings):
    made = FakeN8n()
    settings.N8N_API_URL, settings.N8N_API_KEY = made.url, KEY
    made.add("2")
    made.asked_for = []
    yield made
    made.stop()


def answering(n8n, *answers):
    """Let n8n's first answers be these, and all that follow its own."""
    waiting, calls = list(answers), []

    def answer(method, *_):
        calls.append(method)
        return waiting.pop(0) if waiting else None

    n8n.answer = answer
    return calls


@pytest.mark.parametrize("answers", [(503,), (0,), (429, 502)], ids=str)
def test_n8n_is_asked_again_for_what_changes_nothing(n8n, answers):
    calls = answering(n8n, *answers)
    assert n8n_client.execution(execution_id="2").id == "2"
    assert calls == ["GET"] * (len(answers) + 1)


def test_n8n_is_not_asked_again_for_ever(n8n):
    calls = answering(n8n, *[503] * 99)
    with pytest.raises(n8n_client.Unavailable):
        n8n_client.execution(execution_id="2")
    assert calls == ["GET"] * 3


@pytest.mark.parametrize(("answer", "error"), [(401, n8n_client.Unauthorised), (404, n8n_client.UnknownToN8n)])
def test_a_clear_answer_of_n8n_is_final(n8n, answer, error):
    calls = answering(n8n, answer)
    with pytest.raises(error):
        n8n_client.execution(execution_id="2")
    assert calls == ["GET"]


@pytest.mark.parametrize("answer", [503, 0])
def test_n8n_is_asked_for_a_retry_once(n8n, answer):
    calls = answering(n8n, *[answer] * 9)
    with pytest.raises(n8n_client.Unavailable):
        n8n_client.retry_execution(execution_id="2", load_workflow=True)
    assert calls == ["POST"]


@pytest.fixture
def vendor(settings):
    made = stripe.Api()
    settings.STRIPE_API_URL = made.url
    yield made
    made.stop()


def listed():
    return list(stripe_reconcile._listed("sk_test_1", clock.now()))


@pytest.mark.django_db
def test_stripe_is_asked_again_and_then_no_more(vendor):
    vendor.status = 500
    with pytest.raises(Unavailable):
        listed()
    assert len(vendor.asked) == 3


@pytest.mark.django_db
def test_stripe_that_refuses_the_key_is_not_asked_again(vendor):
    vendor.status = 401
    with pytest.raises(ConfigurationError):
        listed()
    assert len(vendor.asked) == 1


@pytest.mark.django_db
def test_stripe_that_recovers_is_not_missed(vendor, monkeypatch):
    real, states = vendor.answer, [500, 429]

    def answer(query):
        vendor.status = states.pop(0) if states else 200
        return real(query)

    monkeypatch.setattr(vendor, "answer", answer)
    assert listed() == []
    assert len(vendor.asked) == 3
