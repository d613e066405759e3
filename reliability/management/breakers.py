"""Which breakers a command is about."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.management import CommandError
from django.core.management.base import CommandParser
from django.db.models import Q, QuerySet

from reliability.lanes import breakers
from reliability.models import Breaker, Scope


def add_selection(parser: CommandParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="single breakers")
    parser.add_argument("--workflow", help="those of this workflow's lanes")
    parser.add_argument("--tenant", help="only this tenant's")
    parser.add_argument("--instance", action="store_true", help="that of the n8n instance")
    parser.add_argument("--dry-run", action="store_true", help="only list them")


def selected(options: Mapping[str, Any], *, everything: bool = False) -> "QuerySet[Breaker]":
    """Return the breakers that the options name; with `everything`, none need be named. Raises `CommandError`."""
    rows = Breaker.objects.select_related("lane__workflow")
    if options["ids"]:
        try:
            return rows.filter(pk__in=[UUID(text) for text in options["ids"]])
        except ValueError as error:
            raise CommandError(str(error)) from None
    if options["instance"]:
        breakers.instance()
        return rows.filter(scope=Scope.INSTANCE)
    wanted = Q()
    if options["workflow"]:
        wanted &= Q(lane__workflow__slug=options["workflow"])
    if options["tenant"]:
        wanted &= Q(lane__tenant=options["tenant"])
    if not wanted and not everything:
        raise CommandError("Which breakers? Give ids, --workflow, --tenant or --instance.")
    return rows.filter(wanted)
