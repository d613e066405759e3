"""Requests and responses of alerts and quiet periods."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from reliability.api.common.serializers import Page, ReasonRequest, SlugField, Strict, TextField
from reliability.models import Alert, AlertSilence, AlertState
from reliability.policies.alert_rules import NAMES, Severity

SEVERITIES = [(str(one), str(one)) for one in Severity]
ALERT_NAMES = [(one, one) for one in NAMES]


class AlertQuery(Strict):
    """The filters of a list of alerts."""

    name = serializers.ChoiceField(choices=ALERT_NAMES, required=False)
    state = serializers.ChoiceField(choices=AlertState.choices, required=False)
    severity = serializers.ChoiceField(choices=SEVERITIES, required=False)
    workflow = SlugField(required=False)
    tenant = SlugField(required=False)


class AlertShape(serializers.Serializer[Any]):
    """An alert: what is wrong with whom, since when, and who has it in hand. `value` is the last wrong one."""

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
    results = AlertShape(many=True)


class AcknowledgeRequest(ReasonRequest):
    """Until when; nothing said, until it is over."""

    until = serializers.DateTimeField(required=False, allow_null=True)


class SilenceQuery(Strict):
    """The filters of a list of quiet periods."""

    active = serializers.BooleanField(required=False)


class SilenceRequest(Strict):
    """What nothing is to be told of, until when, and why. Nothing named: all."""

    alert = serializers.ChoiceField(choices=ALERT_NAMES, required=False, default="")
    workflow = SlugField(required=False, default="")
    until = serializers.DateTimeField()
    reason = TextField(max_length=500)


class SilenceShape(serializers.Serializer[Any]):
    """A quiet period; empty names mean all."""

    id = serializers.UUIDField()
    alert = serializers.CharField()
    workflow = serializers.CharField()
    until = serializers.DateTimeField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()


class SilencePage(Page):
    results = SilenceShape(many=True)


def alert_shape(one: Alert) -> dict[str, str | float | bool | datetime | None]:
    return {name: getattr(one, name) for name in AlertShape._declared_fields}


def silence_shape(one: AlertSilence) -> dict[str, str | datetime | None]:
    return {name: getattr(one, name) for name in SilenceShape._declared_fields}
