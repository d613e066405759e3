"""Selects the circuit breakers that a command acts on."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db.models import Q, QuerySet

from reliability.lanes import breakers
from reliability.models import Breaker, Scope


def add_selection(parser: CommandParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="IDs of breakers")
    parser.add_argument("--workflow", help="breakers of this workflow's lanes")
    parser.add_argument("--tenant", help="only breakers of this tenant")
    parser.add_argument("--instance", action="store_true", help="the breaker of the n8n instance")
    parser.add_argument("--dry-run", action="store_true", help="list the breakers, change nothing")


def selected(options: Mapping[str, Any], *, everything: bool | None = None) -> "QuerySet[Breaker]":
    """Return the breakers that the options select. Raises `CommandError` for an invalid ID, or if nothing is selected.

    `everything` is the value of `--all`, or `None` for a command without that option.
    """
    rows = Breaker.objects.select_related("lane__workflow")
    if options["ids"]:
        try:
            return rows.filter(pk__in=[UUID(text) for text in options["ids"]])
        except ValueError as error:
            raise CommandError(f"An ID is not a UUID: {error}.") from None
    if options["instance"]:
        breakers.instance()
        return rows.filter(scope=Scope.INSTANCE)
    selection = Q()
    if options["workflow"]:
        selection &= Q(lane__workflow__slug=options["workflow"])
    if options["tenant"]:
        selection &= Q(lane__tenant=options["tenant"])
    if not selection and not everything:
        choices = (
            "IDs, --workflow, --tenant or --instance"
            if everything is None
            else ("IDs, --workflow, --tenant, --instance or --all")
        )
        raise CommandError(f"No breakers selected. Give {choices}.")
    return rows.filter(selection)
