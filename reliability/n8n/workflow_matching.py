"""Matches n8n's workflows to Backstop's: by the id in n8n, by name, or by the slug of the name."""

from reliability.models import Workflow

from . import workflow_files

ONLY_REPORTED = "Created from n8n's failure reports. Set its webhook path, then resume it."
# About how many workflows reports may create: a caller with a key for reports could create any number otherwise.
REPORTED_LIMIT = 500
OTHERS_SLUG, OTHERS_NAME = "n8n-others", "Other workflows of n8n"
COLLECTS_OTHERS = "Collects the failures of many n8n workflows. Leave it paused."


def find(*, n8n_id: str, name: str) -> Workflow | None:
    """Return the workflow, or `None`. A name is ignored if several have it, or if it belongs to another n8n id."""
    if n8n_id and (known := Workflow.objects.filter(n8n_workflow_id=n8n_id).order_by("pk").first()):
        return known
    if not name.strip():
        return None
    # A name is not unique in n8n, and may be reused: a workflow that is linked to another id is never matched by name.
    unclaimed = Workflow.objects.filter(n8n_workflow_id__in=("", n8n_id))
    named = list(unclaimed.filter(name__iexact=name.strip())[:2])
    if len(named) == 1:
        return named[0]
    return unclaimed.filter(slug=workflow_files.slug_of(name)).first()


def find_or_create(*, n8n_id: str, name: str) -> Workflow:
    """Return the workflow; create it if there is none.

    A created workflow is paused: its path is a guess, and nothing may be sent to it before an operator has checked it.
    Beyond `REPORTED_LIMIT` of them, one workflow collects the failures of all others, so that none is lost. Each
    failure report still names its n8n workflow.
    """
    known = find(n8n_id=n8n_id, name=name)
    if known is not None:
        return known
    if Workflow.objects.filter(paused_reason=ONLY_REPORTED).count() >= REPORTED_LIMIT:
        return Workflow.objects.filter(paused_reason=COLLECTS_OTHERS).first() or _create(
            slug=_unused_slug(OTHERS_SLUG), name=OTHERS_NAME, paused_reason=COLLECTS_OTHERS
        )
    by_id = workflow_files.slug_of(f"n8n-{n8n_id}") if n8n_id else "n8n-unnamed"
    for slug in (workflow_files.slug_of(name), by_id):
        if slug and not Workflow.objects.filter(slug=slug).exists():
            break
    return _create(slug=slug, name=name.strip() or slug, n8n_workflow_id=n8n_id, paused_reason=ONLY_REPORTED)


def _unused_slug(slug: str) -> str:
    """Return the slug, with a number appended if it is in use."""
    names = (slug, *(f"{slug}-{n}" for n in range(2, 100)))
    return next(one for one in names if not Workflow.objects.filter(slug=one).exists())


def _create(*, slug: str, **values: str) -> Workflow:
    made = Workflow(slug=slug, path=slug, paused=True, **values)
    # A concurrent report may have created it: the insert then has no effect, and both get the same row.
    Workflow.objects.bulk_create([made], ignore_conflicts=True)
    return Workflow.objects.get(slug=slug)
