"""`manage.py reencrypt`: after it, an earlier SECRET_KEY may go."""

import io

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from reliability.models import AuditEntry, StripeEndpoint, StripeSecret, Workflow

pytestmark = pytest.mark.django_db
OLD, NEW = "an-old-key-" + "o" * 50, "a-new-key-" + "n" * 50


def reencrypt(*arguments: str) -> str:
    said = io.StringIO()
    call_command("reencrypt", *arguments, stdout=said, stderr=said)
    return said.getvalue()


@pytest.fixture
def secrets(settings, workflow):
    """Secrets of every kind, written under the old key; the new one is in use, and the old its fallback."""
    settings.SECRET_KEY = OLD
    workflow("echo", auth_value="Bearer abc", signing_secret="whsec_c2VjcmV0")
    workflow("plain")
    endpoint = StripeEndpoint.objects.create(slug="acme", api_key="rk_test_1")
    StripeSecret.objects.create(endpoint=endpoint, secret="whsec_one")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]


def test_afterwards_the_old_key_may_go(settings, secrets):
    assert "readable" in reencrypt("--dry-run")
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(ValidationError):
        Workflow.objects.get(slug="echo")
    settings.SECRET_KEY_FALLBACKS = [OLD]
    said = reencrypt("--reason", "the old one was seen")
    assert [line.split()[-2:] for line in said.splitlines()[1:]] == [["1", "0"]] * 4
    settings.SECRET_KEY_FALLBACKS = []
    found = Workflow.objects.get(slug="echo")
    assert (found.auth_value, found.signing_secret) == ("Bearer abc", "whsec_c2VjcmV0")
    assert Workflow.objects.get(slug="plain").auth_value == ""
    assert StripeSecret.objects.get().secret == "whsec_one"
    assert StripeEndpoint.objects.get().api_key == "rk_test_1"
    entry = AuditEntry.objects.get(action="reencrypt")
    assert (entry.count, entry.reason) == (4, "the old one was seen")
    reencrypt()


def test_a_secret_that_no_key_opens_is_named_and_kept(settings, secrets):
    endpoint = StripeEndpoint.objects.get()
    settings.SECRET_KEY = "a-lost-key-" + "l" * 50
    lost = StripeSecret.objects.create(endpoint=endpoint, secret="whsec_two")
    settings.SECRET_KEY = NEW
    with pytest.raises(CommandError, match="cannot be decrypted"):
        reencrypt()
    settings.SECRET_KEY_FALLBACKS = []
    assert Workflow.objects.get(slug="echo").auth_value == "Bearer abc"
    with pytest.raises(ValidationError):
        StripeSecret.objects.get(pk=lost.pk)
