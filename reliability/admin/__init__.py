"""The console: every model listed, searchable and filterable, with the operator's actions."""

from . import (
    access,
    alert_silences,
    alerts,
    archives,
    breakers,
    dead_letters,
    deliveries,
    operations,
    people,
    records,
    reports,
    sign_ins,
    stripe,
    stripe_events,
    switches,
    workflows,
)

__all__ = [
    "access",
    "alert_silences",
    "alerts",
    "archives",
    "breakers",
    "dead_letters",
    "deliveries",
    "operations",
    "people",
    "records",
    "reports",
    "sign_ins",
    "stripe",
    "stripe_events",
    "switches",
    "workflows",
]
