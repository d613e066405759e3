"""A workflow's secrets: the value of its authentication header, and the key that signs its deliveries."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from reliability import queue
from reliability.core import audit
from reliability.core.audit import Actor
from reliability.errors import InvalidInput, NotFound
from reliability.models import Workflow

SECRETS = ("auth_value", "signing_secret")


def keep(*, workflow_id: UUID, values: Mapping[str, str], actor: Actor, now: datetime) -> Workflow:
    """Set secrets of a workflow, by name; an empty value removes the secret.

    The audit log records only their names. Raises `NotFound` and `InvalidInput`.
    """
    if not values or not set(values) <= set(SECRETS):
        raise InvalidInput(f"Unknown secret. Give one of {', '.join(SECRETS)}.")
    with transaction.atomic():
        workflow = Workflow.objects.select_for_update(no_key=True).filter(pk=workflow_id).first()
        if workflow is None:
            raise NotFound("No such workflow.")
        before = workflow.route
        for name, value in values.items():
            setattr(workflow, name, value)
        wrong = workflow.authentication_problems
        if kept := {name: [why] for name, why in wrong.items() if name in values}:
            raise InvalidInput(errors=kept)
        if workflow.route != before:
            workflow.route_changed_at = now
        workflow.save(update_fields=[*values, "route_changed_at", "updated_at"])
        queue.wake_waiting(workflow_id=workflow.pk)
        details = {"fields": sorted(values)}
        audit.record(actor=actor, action="set_workflow_secrets", now=now, target=workflow, details=details)
    return workflow
