"""Indexes for what the console's lists filter and search by; built beside the work on their tables."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("reliability", "0015_letters"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="attempt",
            index=models.Index(
                models.F("result"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("result", "delivered"), _negated=True),
                name="attempt_by_result",
            ),
        ),
        AddIndexConcurrently(
            model_name="attempt",
            index=models.Index(
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("probe", True)),
                name="attempt_probes",
            ),
        ),
        AddIndexConcurrently(
            model_name="auditentry",
            index=models.Index(
                models.F("target_id"), models.OrderBy(models.F("id"), descending=True), name="audit_by_target_alone"
            ),
        ),
        AddIndexConcurrently(
            model_name="auditentry",
            index=models.Index(
                models.F("actor"), models.OrderBy(models.F("id"), descending=True), name="audit_by_actor"
            ),
        ),
        AddIndexConcurrently(
            model_name="auditentry",
            index=models.Index(
                models.F("action"), models.OrderBy(models.F("id"), descending=True), name="audit_by_action"
            ),
        ),
        AddIndexConcurrently(
            model_name="delivery",
            index=models.Index(
                models.F("source"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("source", "api"), _negated=True),
                name="delivery_by_source",
            ),
        ),
        AddIndexConcurrently(
            model_name="execution",
            index=models.Index(
                models.F("status"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("status", "success"), _negated=True),
                name="execution_by_status",
            ),
        ),
        AddIndexConcurrently(
            model_name="failurereport",
            index=models.Index(
                models.F("state"), models.OrderBy(models.F("id"), descending=True), name="failure_by_state"
            ),
        ),
        AddIndexConcurrently(
            model_name="failurereport",
            index=models.Index(
                models.F("error_code"), models.OrderBy(models.F("id"), descending=True), name="failure_by_code"
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeclaim",
            index=models.Index(
                models.F("status"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("status", "processed"), _negated=True),
                name="stripe_claim_open",
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.F("type"), models.OrderBy(models.F("id"), descending=True), name="stripe_event_by_type"
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.F("endpoint"), models.OrderBy(models.F("id"), descending=True), name="stripe_event_by_endpoint"
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("livemode", False)),
                name="stripe_event_test",
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("stale", True)),
                name="stripe_event_stale",
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.F("ignored"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("ignored", ""), _negated=True),
                name="stripe_event_ignored",
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("source", "reconciled")),
                name="stripe_event_reconciled",
            ),
        ),
        AddIndexConcurrently(
            model_name="striperefusal",
            index=models.Index(
                models.F("slug"), models.OrderBy(models.F("at"), descending=True), name="stripe_refusal_by_slug"
            ),
        ),
    ]
