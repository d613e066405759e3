"""Requests and responses of alerts and silences."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from reliability.api.common.serializers import Page, ReasonRequest, SlugField, Strict, TextField
from reliability.models import Alert, AlertSilence, AlertState
from reliability.policies.alert_rules import NAMES, Severity

SEVERITIES = [(str(one), str(one)) for one in Severity]
ALERT_NAMES = [(one, one) for one in NAMES]


class AlertQuery(Strict):
    """Filters of the list of alerts."""

    name = serializers.ChoiceField(choices=ALERT_NAMES, required=False)
    state = serializers.ChoiceField(choices=AlertState.choices, required=False)
    severity = serializers.ChoiceField(choices=SEVERITIES, required=False)
    workflow = SlugField(required=False)
    tenant = SlugField(required=False)


class AlertSerializer(serializers.Serializer[Any]):
    """An alert: its subject, its times, and who acknowledged it. `value` is the last one outside of the limit."""

    id = serializers.UUIDField()
    name = serializers.ChoiceField(choices=ALERT_NAMES)
    severity = serializers.ChoiceField(choices=SEVERITIES)
    state = serializers.ChoiceField(choices=AlertState.choices)
    workflow = serializers.CharField()
    tenant = serializers.CharField()
    subject = serializers.CharField()
    value = serializers.FloatField()
    limit = serializers.FloatField()
    summary = serializers.CharField()
    pending_since = serializers.DateTimeField(allow_null=True)
    firing_since = serializers.DateTimeField(allow_null=True)
    resolved_at = serializers.DateTimeField(allow_null=True)
    told_at = serializers.DateTimeField(allow_null=True)
    acknowledged = serializers.BooleanField()
    acknowledged_by = serializers.CharField()
    acknowledged_until = serializers.DateTimeField(allow_null=True)
    acknowledged_reason = serializers.CharField()
    checked_at = serializers.DateTimeField()


class AlertPage(Page):
    results = AlertSerializer(many=True)


class AcknowledgeRequest(ReasonRequest):
    """`until` ends the acknowledgement; without it, the acknowledgement lasts until the alert resolves."""

    until = serializers.DateTimeField(required=False, allow_null=True)


class SilenceQuery(Strict):
    """Filters of the list of silences."""

    active = serializers.BooleanField(required=False)


class SilenceRequest(Strict):
    """A silence. Without `alert` it covers every alert, without `workflow` every workflow."""

    alert = serializers.ChoiceField(choices=ALERT_NAMES, required=False, default="")
    workflow = SlugField(required=False, default="")
    until = serializers.DateTimeField()
    reason = TextField(max_length=500)


class SilenceSerializer(serializers.Serializer[Any]):
    """A silence; an empty name means all."""

    id = serializers.UUIDField()
    alert = serializers.CharField()
    workflow = serializers.CharField()
    until = serializers.DateTimeField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()


class SilencePage(Page):
    results = SilenceSerializer(many=True)


def alert_representation(one: Alert) -> dict[str, str | float | bool | datetime | None]:
    return {name: getattr(one, name) for name in AlertSerializer._declared_fields}


def silence_representation(one: AlertSilence) -> dict[str, str | datetime | None]:
    return {name: getattr(one, name) for name in SilenceSerializer._declared_fields}
