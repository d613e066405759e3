"""What hides the secrets of every workflow: none is missed, and each report does not read them all."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reliability.core import known_secrets
from reliability.models import Workflow
from reliability.policies.redaction import REDACTED

pytestmark = pytest.mark.django_db


def hidden(text: str) -> str:
    return known_secrets.redactor_of_all().text(text)


def test_secrets_are_read_again_only_when_one_changed(workflow):
    workflow(slug="a", auth_value="Bearer first-secret")
    assert hidden("first-secret") == REDACTED
    with CaptureQueriesContext(connection) as seen:
        for _ in range(3):
            assert hidden("first-secret") == REDACTED
    assert len(seen) == 3
    assert not any("SELECT auth_value" in one["sql"] for one in seen)


def test_a_change_by_any_way_is_seen_at_once(workflow, monkeypatch):
    one = workflow(slug="a", auth_value="Bearer first-secret")
    assert hidden("first-secret second-secret") == f"{REDACTED} second-secret"
    Workflow.objects.filter(pk=one.pk).update(auth_value="Bearer second-secret")  # `updated_at` stays
    assert hidden("first-secret second-secret") == f"first-secret {REDACTED}"
    Workflow.objects.filter(pk=one.pk).update(auth_value="", signing_secret="whsec_dGhpcmQtc2VjcmV0")
    assert hidden("second-secret whsec_dGhpcmQtc2VjcmV0") == f"second-secret {REDACTED}"
    monkeypatch.setenv("N8N_AUTH_A", "Bearer fourth-secret")
    assert hidden("fourth-secret") == REDACTED
    monkeypatch.delenv("N8N_AUTH_A")
    assert hidden("fourth-secret") == "fourth-secret"


def test_a_secret_that_no_key_decrypts_loses_no_report(workflow):
    workflow(slug="a", auth_value="Bearer first-secret")
    broken = workflow(slug="b", auth_value="Bearer second-secret")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE reliability_workflow SET auth_value = 'gAAAAAbroken' WHERE id = %s", [broken.pk])
    assert hidden("first-secret") == REDACTED
