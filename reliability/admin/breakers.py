"""Circuit breakers and their history."""

from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action

from reliability.models import Breaker, BreakerTransition
from reliability.pipeline import circuit

from .base import ReadOnlyInline, ReadOnlyScreen
from .confirm import Verb, ask

RESET = Verb("reset", "Reset", "breakers closed", circuit.reset, "breaker_id")
FORCE_OPEN = Verb(
    "force_open",
    "Force open",
    "breakers held open",
    circuit.force_open,
    "breaker_id",
    warning="Nothing goes through until it is reset. What arrives waits.",
)


class TransitionInline(ReadOnlyInline):
    model = BreakerTransition
    fields = ("at", "from_state", "to_state", "reason", "actor")
    readonly_fields = fields
    ordering = ("-id",)


@admin.register(Breaker)
class BreakerAdmin(ReadOnlyScreen):
    list_display = ("name", "scope", "state", "reason", "opened_at", "next_probe_at", "openings")
    list_filter = ("state", "scope", "lane__workflow")
    list_select_related = ("lane__workflow",)
    search_fields = ("lane__workflow__slug", "lane__workflow__name", "lane__tenant", "reason")
    inlines = (TransitionInline,)
    actions = ("reset_selected", "force_open_selected")
    actions_detail = ("reset_one", "force_open_one")

    @admin.display(description="guards")
    def name(self, breaker: Breaker) -> str:
        return str(breaker)

    def has_reset_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.may(request, "reset")

    def has_force_open_permission(self, request: HttpRequest, object_id: object = None) -> bool:
        return self.may(request, "force_open")

    @admin.action(description="Reset …", permissions=["reset"])
    def reset_selected(self, request: HttpRequest, queryset: "QuerySet[Breaker]") -> HttpResponse | None:
        return ask(self, request, RESET, list(queryset.values_list("pk", flat=True)))

    @admin.action(description="Force open …", permissions=["force_open"])
    def force_open_selected(self, request: HttpRequest, queryset: "QuerySet[Breaker]") -> HttpResponse | None:
        return ask(self, request, FORCE_OPEN, list(queryset.values_list("pk", flat=True)))

    @action(description="Reset", url_path="reset", permissions=["reset"])
    def reset_one(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        return ask(self, request, RESET, [UUID(object_id)])

    @action(description="Force open", url_path="force-open", permissions=["force_open"])
    def force_open_one(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        return ask(self, request, FORCE_OPEN, [UUID(object_id)])


@admin.register(BreakerTransition)
class TransitionAdmin(ReadOnlyScreen):
    list_display = ("at", "breaker", "from_state", "to_state", "reason", "actor")
    list_filter = ("to_state", "at")
    list_select_related = ("breaker__lane__workflow",)
    search_fields = ("breaker__lane__workflow__slug", "breaker__lane__tenant", "reason", "actor")
