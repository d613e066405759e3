"""The switches, and the places that others hold within a lane's limit."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from reliability.models import Flag, FlagName, Slot
from reliability.pipeline import flags

from .base import ReadOnly, ReadOnlyScreen
from .confirm import ActingScreen, Verb

ON = Verb("switch_on", "Switch on", "switched on", flags.switch_on, "name", permission="switch")
OFF = Verb(
    key="switch_off",
    title="Switch off",
    done="switched off",
    call=flags.switch_off,
    argument="name",
    warning="It concerns every workflow and tenant, until it is switched on again.",
    permission="switch",
)


@admin.register(Flag)
class FlagAdmin(ReadOnly, ActingScreen):
    verbs = (OFF, ON)
    list_display = ("name", "enabled", "what", "reason", "changed_at", "changed_by")
    ordering = ("name",)

    def key_of(self, text: str) -> Any:
        return text if text in FlagName.values else None

    @admin.display(description="what is off, and what then")
    def what(self, flag: Flag) -> str:
        return FlagName(flag.name).label

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Show every switch, those that nobody touched yet included."""
        Flag.objects.bulk_create([Flag(name=name) for name in FlagName.values], ignore_conflicts=True)
        return super().changelist_view(request, extra_context)


@admin.register(Slot)
class SlotAdmin(ReadOnlyScreen):
    list_display = ("id", "lane", "holder", "taken_at", "expires_at")
    list_select_related = ("lane__workflow",)
    list_filter = ("taken_at",)
