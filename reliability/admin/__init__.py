"""The operator console: a list and a detail page for each model, with the operators' actions."""

from .alerts import alerts, silences
from .bulk import operations
from .dead_letters import archives, model_admin
from .delivery import breakers, deliveries, switches, workflows
from .n8n import reports
from .setup import api_keys, audit_log, sign_ins, users
from .stripe import endpoints, events

__all__ = [
    "alerts",
    "api_keys",
    "archives",
    "audit_log",
    "breakers",
    "deliveries",
    "endpoints",
    "events",
    "model_admin",
    "operations",
    "reports",
    "sign_ins",
    "silences",
    "switches",
    "users",
    "workflows",
]
