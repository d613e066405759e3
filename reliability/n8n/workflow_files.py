"""Imports workflows from JSON documents, and exports them.

A document defines the whole policy of a workflow: a field that it leaves out goes back to the environment's value.
Settings of operators (paused, authentication header, tenants' overrides) change only if the document has them. Secrets
are never in a document.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from reliability import queue
from reliability.core import audit, json_files
from reliability.core.audit import Actor
from reliability.core.json_files import Errors, Imported
from reliability.errors import InvalidInput
from reliability.lanes import opening
from reliability.models import Lane, Workflow
from reliability.models.policy import POLICY_FIELDS, PolicyFields
from reliability.models.workflow import overrides_of
from reliability.policies import webhook_path

RETRY_POLICY_FIELDS = ("max_retries", "base_delay_ms", "max_delay_ms", "jitter_factor")
TOP_LEVEL_FIELDS = tuple(name for name in POLICY_FIELDS if name not in RETRY_POLICY_FIELDS)
IDENTITY_FIELDS = ("name", "path", "slug")
OPERATOR_FIELDS = ("stripe_events", "auth_header", "paused", "tenants")
NUMBER_FIELDS = ("minimum_failure_rate", "jitter_factor")
TEXT_FIELDS = ("completion", "on_unknown_outcome", "name", "path", "slug", "auth_header")
BOOLEAN_FIELDS = ("skip_unchanged", "paused")


def load(*, documents: Sequence[Mapping[str, Any]], actor: Actor, now: datetime) -> list[Imported]:
    """Create or update workflows from documents, all or none. Raises `InvalidInput` with every error."""
    errors: Errors = {}
    with transaction.atomic():
        slugs = [_slug(one) for one in documents]
        # Lock order: the workflows in the order of their keys, then their lanes. Two imports at once go one after the
        # other, and a dispatcher that holds a lane is waited for before anything is written.
        json_files.lock_rows(Workflow.objects.all(), slugs)
        lanes = Lane.objects.filter(workflow__slug__in=slugs)
        list(lanes.order_by("pk").select_for_update(no_key=True, of=("self",)).values_list("pk"))
        done = [_load_one(i, document, errors, actor, now) for i, document in enumerate(documents)]
        json_files.refuse_duplicates(done, errors)
        if errors:
            raise InvalidInput("The workflow file is invalid; nothing was changed.", errors=errors)
    return done


def put(*, slug: str, document: Mapping[str, Any], actor: Actor, now: datetime) -> Imported:
    """Create or update one workflow. Raises `InvalidInput`, and `Conflict` if another request creates it, too."""
    if document.get("slug", slug) != slug:
        raise InvalidInput(errors={"slug": [f"The address says '{slug}'."]})
    return json_files.load_one(load, document={**document, "slug": slug}, actor=actor, now=now)


def dump(*, workflows: Iterable[Workflow]) -> list[dict[str, Any]]:
    """Return the documents of workflows, in the shape that `load` reads."""
    return [_dump_one(workflow) for workflow in workflows]


def slug_of_path(path: str) -> str:
    """Return the slug of a path, for documents that name none; percent-encoding makes no difference."""
    return slug_of(webhook_path.decode(path))


def slug_of(name: str) -> str:
    """Return the slug of a name; empty if the name has no character that a slug may have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")


def _load_one(index: int, document: Mapping[str, Any], errors: Errors, actor: Actor, now: datetime) -> Imported:
    errors_found = _problems(document)
    if errors_found:
        errors.update({f"{index}.{name}": messages for name, messages in errors_found.items()})
        return Imported(str(document.get("slug") or document.get("path") or index), "refused")
    path = document["path"].strip("/")
    slug = _slug(document)
    workflow = Workflow.objects.filter(slug=slug).first() or Workflow(slug=slug)
    created = workflow._state.adding
    before = None if created else _dump_one(workflow)
    route = workflow.route
    workflow.name, workflow.path = document.get("name") or slug, path
    _set_policy(workflow, document)
    for name in ("stripe_events", "auth_header", "paused"):
        if name in document:
            setattr(workflow, name, document[name])
    # Lanes that wait because of a wrong path or credential are tried again at once after this time.
    if workflow.route != route:
        workflow.route_changed_at = now
    if not json_files.save(workflow, errors, prefix=f"{index}."):
        return Imported(slug, "refused")
    _set_tenants(workflow, document.get("tenants"), index, errors)
    # An import that changes nothing writes no audit entry: deployments import the same files again and again.
    if before == _dump_one(workflow):
        return Imported(slug, "unchanged")
    audit.record(actor=actor, action="import_workflow", now=now, target=workflow, details={"created": created})
    queue.wake_waiting(workflow_id=workflow.pk)
    return Imported(slug, "created" if created else "updated")


def _slug(document: Mapping[str, Any]) -> str:
    """Return the slug that a document names, or that of its path."""
    path = document.get("path")
    return str(document.get("slug") or slug_of_path(path.strip("/") if isinstance(path, str) else ""))


def _set_policy(level: PolicyFields, document: Mapping[str, Any]) -> None:
    retries = document.get("retry_policy") or {}
    for name in POLICY_FIELDS:
        setattr(level, name, (retries if name in RETRY_POLICY_FIELDS else document).get(name))


def _set_tenants(workflow: Workflow, tenants: Mapping[str, Any] | None, index: int, errors: Errors) -> None:
    if tenants is None:
        return
    for lane in workflow.lanes.exclude(tenant__in=tenants):
        _set_policy(lane, {})
        lane.save(update_fields=POLICY_FIELDS)
    for tenant, overrides in tenants.items():
        lane = opening.open_lane(workflow_id=workflow.pk, tenant=tenant)
        _set_policy(lane, overrides)
        json_files.save(lane, errors, prefix=f"{index}.tenants.{tenant}.", exclude=["workflow"])


def _problems(document: Mapping[str, Any]) -> Errors:
    """Return the errors in a document's shape. The models check its values."""
    errors_found = _unknown(document, {*IDENTITY_FIELDS, *TOP_LEVEL_FIELDS, *OPERATOR_FIELDS, "retry_policy"})
    path = document.get("path")
    if why := webhook_path.problem(path if isinstance(path, str) else ""):
        errors_found["path"] = [why]
    elif not document.get("slug") and not slug_of_path(str(path)):
        errors_found["slug"] = ["The path holds none of a-z and 0-9 to make a slug of: give the workflow one."]
    events = document.get("stripe_events", [])
    if not isinstance(events, list) or not all(isinstance(one, str) and one for one in events):
        errors_found["stripe_events"] = ["A list of event types, such as 'invoice.*', is needed."]
    errors_found |= _mistyped(document, "")
    tenants = document.get("tenants") or {}
    if not isinstance(tenants, dict):
        return errors_found | {"tenants": ["An object of overrides by tenant is needed."]}
    for tenant, overrides in tenants.items():
        errors_found |= _tenant_problems(tenant, overrides)
    return errors_found


def _tenant_problems(tenant: str, overrides: Any) -> Errors:
    prefix = f"tenants.{tenant}."
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", tenant):
        return {f"tenants.{tenant}": ["Not a tenant's slug."]}
    if not isinstance(overrides, dict):
        return {f"tenants.{tenant}": ["An object of overrides is needed."]}
    found = _unknown(overrides, {*TOP_LEVEL_FIELDS, "retry_policy"}) | _mistyped(overrides, "")
    return {prefix + name: messages for name, messages in found.items()}


def _unknown(document: Mapping[str, Any], known: set[str]) -> Errors:
    errors_found: Errors = {name: ["Unknown field."] for name in document if name not in known}
    retries = document.get("retry_policy")
    if retries is not None and not isinstance(retries, dict):
        errors_found["retry_policy"] = ["An object is needed."]
    elif retries:
        errors_found |= {
            f"retry_policy.{name}": ["Unknown field."] for name in retries if name not in RETRY_POLICY_FIELDS
        }
    return errors_found


def _mistyped(document: Mapping[str, Any], prefix: str) -> Errors:
    values = {
        name: document[name] for name in document if name in {*TOP_LEVEL_FIELDS, *IDENTITY_FIELDS, *OPERATOR_FIELDS}
    }
    retries = document.get("retry_policy")
    if isinstance(retries, dict):
        values |= {name: retries[name] for name in RETRY_POLICY_FIELDS if name in retries}
    errors_found: Errors = {}
    for name, value in values.items():
        expected = _expected_type(name)
        if expected is not None and value is not None and (message := json_files.type_error(value, expected)):
            errors_found[prefix + name] = [message]
    return errors_found


def _expected_type(name: str) -> tuple[tuple[type, ...], str] | None:
    if name in TEXT_FIELDS:
        return (str,), "text"
    if name in BOOLEAN_FIELDS:
        return (bool,), "true or false"
    if name in NUMBER_FIELDS:
        return (int, float), "a number"
    return ((int,), "a whole number") if name in POLICY_FIELDS else None


def _dump_policy(level: PolicyFields) -> dict[str, Any]:
    own = overrides_of(level)
    document: dict[str, Any] = {name: own[name] for name in TOP_LEVEL_FIELDS if name in own}
    retries = {name: own[name] for name in RETRY_POLICY_FIELDS if name in own}
    return document | ({"retry_policy": retries} if retries else {})


def _dump_one(workflow: Workflow) -> dict[str, Any]:
    document: dict[str, Any] = {"name": workflow.name, "slug": workflow.slug, "path": workflow.path}
    document |= _dump_policy(workflow)
    for name in ("stripe_events", "auth_header"):
        if getattr(workflow, name):
            document[name] = getattr(workflow, name)
    if workflow.paused:
        document["paused"] = True
    tenants = {lane.tenant: _dump_policy(lane) for lane in workflow.lanes.order_by("tenant")}
    overriding = {tenant: policy for tenant, policy in tenants.items() if policy}
    return document | ({"tenants": overriding} if overriding else {})
