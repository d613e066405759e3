"""Circuit breakers and their history."""

from django.contrib import admin

from reliability.models import Breaker, BreakerTransition
from reliability.pipeline import circuit

from .base import ReadOnly, ReadOnlyInline, ReadOnlyScreen
from .confirm import ActingScreen, Verb
from .ends import EndForm

RESET = Verb("reset", "Reset", "breakers closed", circuit.reset, "breaker_id")
FORCE_OPEN = Verb(
    key="force_open",
    title="Force open",
    done="breakers held open",
    call=circuit.force_open,
    argument="breaker_id",
    form=EndForm,
    warning="Nothing goes through until then, or until it is reset. What arrives waits.",
)


class TransitionInline(ReadOnlyInline):
    model = BreakerTransition
    fields = ("at", "from_state", "to_state", "reason", "actor")
    readonly_fields = fields
    ordering = ("-id",)


@admin.register(Breaker)
class BreakerAdmin(ReadOnly, ActingScreen):
    verbs = (RESET, FORCE_OPEN)
    list_display = ("name", "scope", "state", "reason", "opened_at", "next_probe_at", "openings")
    list_filter = ("state", "scope", "lane__workflow")
    list_select_related = ("lane__workflow",)
    search_fields = ("lane__workflow__slug", "lane__workflow__name", "lane__tenant", "reason")
    inlines = (TransitionInline,)

    @admin.display(description="guards")
    def name(self, breaker: Breaker) -> str:
        return str(breaker)


@admin.register(BreakerTransition)
class TransitionAdmin(ReadOnlyScreen):
    list_display = ("at", "breaker", "from_state", "to_state", "reason", "actor")
    list_filter = ("to_state", "at")
    list_select_related = ("breaker__lane__workflow",)
    search_fields = ("breaker__lane__workflow__slug", "breaker__lane__tenant", "reason", "actor")
