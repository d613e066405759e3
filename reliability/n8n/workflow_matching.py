"""Which workflow of ours an n8n workflow is: by its id in n8n, its name, or the slug that its name gives."""

from reliability.models import Workflow

from . import workflow_files

ONLY_REPORTED = "It is known from n8n's reports alone: give it its webhook's path, then resume it."
# So many are known from reports alone at most, about: whoever may report could else make any number.
MADE_LIMIT = 500
OTHERS, OTHERS_NAME = "n8n-others", "Other workflows of n8n"
STANDS_FOR_OTHERS = "It stands for many workflows of n8n that are known from reports alone: leave it paused."


def find(*, n8n_id: str, name: str) -> Workflow | None:
    """Return the workflow of ours that is meant. A name that several have, or that another id goes by, says nothing."""
    if n8n_id and (known := Workflow.objects.filter(n8n_workflow_id=n8n_id).order_by("pk").first()):
        return known
    if not name.strip():
        return None
    unclaimed = Workflow.objects.filter(n8n_workflow_id__in=("", n8n_id))
    named = list(unclaimed.filter(name__iexact=name.strip())[:2])
    if len(named) == 1:
        return named[0]
    return unclaimed.filter(slug=workflow_files.slug_of(name)).first()


def find_or_make(*, n8n_id: str, name: str) -> Workflow:
    """Return the workflow, made if there is none.

    One that is made is paused: its path is only guessed, and nothing may be sent where nobody has looked. Beyond
    `MADE_LIMIT` of such, one workflow stands for all others: no failure is lost, and each says whose it is.
    """
    known = find(n8n_id=n8n_id, name=name)
    if known is not None:
        return known
    if Workflow.objects.filter(paused_reason=ONLY_REPORTED).count() >= MADE_LIMIT:
        return Workflow.objects.filter(paused_reason=STANDS_FOR_OTHERS).first() or _made(
            slug=_free(OTHERS), name=OTHERS_NAME, paused_reason=STANDS_FOR_OTHERS
        )
    own = workflow_files.slug_of(f"n8n-{n8n_id}") if n8n_id else "n8n-unnamed"
    for slug in (workflow_files.slug_of(name), own):
        if slug and not Workflow.objects.filter(slug=slug).exists():
            break
    return _made(slug=slug, name=name.strip() or slug, n8n_workflow_id=n8n_id, paused_reason=ONLY_REPORTED)


def _free(slug: str) -> str:
    """Return the name, or one with a number where somebody has a workflow of that name."""
    names = (slug, *(f"{slug}-{n}" for n in range(2, 100)))
    return next(one for one in names if not Workflow.objects.filter(slug=one).exists())


def _made(*, slug: str, **values: str) -> Workflow:
    made = Workflow(slug=slug, path=slug, paused=True, **values)
    Workflow.objects.bulk_create([made], ignore_conflicts=True)
    return Workflow.objects.get(slug=slug)
