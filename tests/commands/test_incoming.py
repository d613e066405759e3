"""The commands for what comes in: Stripe endpoints, switches."""

import io

import pytest
from django.core.management import CommandError, call_command

from reliability.models import AuditEntry, Flag, StripeEndpoint, StripeSecret

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = io.StringIO()
    call_command(*words, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def typed(monkeypatch):
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_an_endpoint_is_made_and_its_secrets_rotated(typed):
    assert "active secrets: none" in run("stripe_endpoint", "acme", "--create", "--tenant", "acme", "--mode", "live")
    typed("whsec_first-1111\n")
    run("stripe_endpoint", "acme", "--add-secret")
    typed("whsec_second-2222\n")
    said = run("stripe_endpoint", "acme", "--add-secret", "--reason", "rotation")
    assert "…2222, …1111" in said
    assert "whsec" not in said
    assert "…2222" in run("stripe_endpoint", "acme", "--retire", "1111")
    assert StripeSecret.objects.get(active=True).secret == "whsec_second-2222"
    assert StripeEndpoint.objects.get().tenant == "acme"
    assert "/stripe/webhook/acme/  tenant acme  mode live" in run("stripe_endpoint")
    assert "rotation" in AuditEntry.objects.filter(action="add_stripe_secret").values_list("reason", flat=True)


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (["nobody"], "", "--create"),
        (["A B", "--create"], "", "slug"),
        (["acme", "--create"], "", "already exists"),
        (["acme", "--add-secret"], "sk_live_1", "whsec_"),
        (["acme", "--add-secret"], "", "secret"),
        (["acme", "--add-secret"], "whsec_first-1111", "already"),
        (["acme", "--retire", "9999"], "", "0 active"),
    ],
)
def test_bad_input_says_so_and_changes_nothing(typed, words, text, said):
    run("stripe_endpoint", "acme", "--create")
    typed("whsec_first-1111")
    run("stripe_endpoint", "acme", "--add-secret")
    typed(text)
    with pytest.raises(CommandError, match=said):
        run("stripe_endpoint", *words)
    assert (StripeEndpoint.objects.count(), StripeSecret.objects.filter(active=True).count()) == (1, 1)


def test_switches_are_shown_and_turned():
    assert run("flag").splitlines() == ["scheduling: on", "dispatch: on", "stripe: on"]
    assert "dispatch: OFF" in run("flag", "dispatch", "off", "--reason", "the vendor moves house")
    assert Flag.objects.get(name="dispatch").reason == "the vendor moves house"
    assert "dispatch: on" in run("flag", "dispatch", "on")
    with pytest.raises(CommandError):
        run("flag", "dispatch")
