"""Lists the webhooks of n8n's workflows, and imports those that an operator names as workflows."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from reliability.core.audit import Actor
from reliability.core.json_files import Imported
from reliability.errors import InvalidInput
from reliability.models import Workflow
from reliability.policies import webhook_path

from . import client as n8n_client
from . import workflow_files, workflow_matching
from .client import N8nWorkflow

WEBHOOK_NODE = "n8n-nodes-base.webhook"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook in n8n. `state`: `new`, `known`, `different` (from the workflow here), or `unfit` (not importable).

    `notes` tell an operator what to know before anything is sent there.
    """

    slug: str
    name: str
    path: str
    n8n_id: str
    state: str
    notes: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


def webhooks() -> list[Webhook]:
    """Return n8n's webhooks that accept POST. Raises `N8nError`."""
    found = []
    for one in n8n_client.workflows():
        hooks = [] if one.archived else [node for node in one.nodes if _takes_post(node)]
        found += [_webhook(one, node, alone=len(hooks) == 1) for node in hooks]
    return found


def import_webhooks(*, chosen: Collection[Webhook], actor: Actor, now: datetime) -> list[Imported]:
    """Import these webhooks, all or none; known workflows keep their policy. Raises `InvalidInput`."""
    unfit = {one.slug: list(one.notes) for one in chosen if one.state == "unfit"}
    if unfit:
        raise InvalidInput("Some of these webhooks can't be imported; nothing was changed.", errors=unfit)
    with transaction.atomic():
        done = workflow_files.load(documents=[one.document for one in chosen], actor=actor, now=now)
        for one in chosen:
            Workflow.objects.filter(slug=one.slug).update(n8n_workflow_id=one.n8n_id)
            reported = Workflow.objects.filter(slug=one.slug, paused=False)
            reported.filter(paused_reason=workflow_matching.ONLY_REPORTED).update(paused_reason="")
    return done


def _takes_post(node: Mapping[str, Any]) -> bool:
    methods = _parameters(node).get("httpMethod", "GET")
    # A single method, or a list of them.
    accepts_post = "POST" in (methods if isinstance(methods, list) else [methods])
    return node.get("type") == WEBHOOK_NODE and not node.get("disabled") and accepts_post


def _webhook(one: N8nWorkflow, node: Mapping[str, Any], *, alone: bool) -> Webhook:
    path = webhook_path.from_node(str(_parameters(node).get("path") or node.get("webhookId") or "").strip("/"))
    local = _local_workflow(one, path, alone=alone)
    slug = local.slug if local else workflow_files.slug_of_path(path)
    name = one.name if alone else f"{one.name} ({path})"
    notes = _notes(one, node, path)
    if not slug:
        notes = (*notes, "its path makes no slug: import it by a file that names one")
    if problem := webhook_path.problem(path):
        notes = (*notes, problem)
    # A path with parameters (`:id`) has no single URL that deliveries could be sent to.
    if not slug or problem or ":" in path:
        return Webhook(slug or path, name, path, one.id, "unfit", notes)
    document = _document(local, name, path, slug)
    if local is None:
        state = "new"
    else:
        same = (_plain(local.path), local.name, local.n8n_workflow_id) == (_plain(path), name, one.id)
        state = "known" if same else "different"
    return Webhook(slug, name, path, one.id, state, notes, document)


def _local_workflow(one: N8nWorkflow, path: str, *, alone: bool) -> Workflow | None:
    written = {path, webhook_path.encode(path), _plain(path)}  # a path may be stored encoded or not
    spellings = [spelling for one_way in written for spelling in (one_way, f"/{one_way}", f"{one_way}/")]
    # One that is linked to this n8n workflow goes before one that is linked to none.
    by_path = Workflow.objects.filter(path__in=spellings).exclude(path="")
    found = by_path.filter(n8n_workflow_id__in=("", one.id)).order_by("-n8n_workflow_id").first()
    return found or (workflow_matching.find(n8n_id=one.id, name=one.name) if alone else None)


def _plain(path: str) -> str:
    return webhook_path.decode(path).strip("/")


def _document(local: Workflow | None, name: str, path: str, slug: str) -> dict[str, Any]:
    kept = workflow_files.dump(workflows=[local])[0] if local else {}
    document = {**kept, "name": name, "path": path, "slug": slug}
    if local is not None and local.paused_reason == workflow_matching.ONLY_REPORTED:
        document["paused"] = False  # its path was guessed from a report; now it is known
    return document


def _notes(one: N8nWorkflow, node: Mapping[str, Any], path: str) -> tuple[str, ...]:
    parameters = _parameters(node)
    authentication = parameters.get("authentication", "none")
    found = [
        "" if one.active else "not published",
        "its path holds parameters" if ":" in path else "",
        f"needs {authentication}" if authentication != "none" else "",
        "" if parameters.get("responseMode", "onReceived") != "onReceived" else "answers before its work is done",
    ]
    return tuple(note for note in found if note)


def _parameters(node: Mapping[str, Any]) -> Mapping[str, Any]:
    found = node.get("parameters")
    return found if isinstance(found, Mapping) else {}
