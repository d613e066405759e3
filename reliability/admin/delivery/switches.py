"""The switches, and the slots that n8n itself holds within a lane's concurrency limit."""

from typing import Any

from django.contrib import admin

from reliability.admin.common import list_columns
from reliability.admin.common.base import PreparesRows, ReadOnly, ReadOnlyScreen
from reliability.admin.common.confirm import ActionScreen, Verb
from reliability.lanes import flags
from reliability.models import Flag, FlagName, Slot

ON = Verb("switch_on", "Switch on", "turned on", flags.switch_on, "name", permission="switch")
OFF = Verb(
    key="switch_off",
    title="Switch off",
    done="turned off",
    call=flags.switch_off,
    argument="name",
    warning="This affects every workflow and tenant until you switch it on again.",
    permission="switch",
)


@admin.register(Flag)
class FlagAdmin(PreparesRows, ReadOnly, ActionScreen):
    verbs = (OFF, ON)
    list_display = ("part", "badge", "effect", "reason", "changed", "changed_by")
    sortable_by = ()
    ordering = ("name",)

    def key_of(self, text: str) -> Any:
        return text if text in FlagName.values else None

    @admin.display(description="part")
    def part(self, flag: Flag) -> str:
        return FlagName(flag.name).label.partition(": ")[0]

    @admin.display(description="effect when off")
    def effect(self, flag: Flag) -> str:
        return FlagName(flag.name).label.partition(": ")[2]

    @admin.display(description="state")
    def badge(self, flag: Flag) -> str:
        return list_columns.status_badge("on") if flag.enabled else list_columns.status_badge("off", tone="bad")

    @admin.display(description="changed")
    def changed(self, flag: Any) -> str:
        return list_columns.moment(flag.changed_at, never="never", now=flag.as_of)


@admin.register(Slot)
class SlotAdmin(PreparesRows, ReadOnlyScreen):
    empty_text = "Workflows in n8n reserve slots through the API."
    list_display = ("id", "lane", "holder", "taken", "expires")
    list_select_related = ("lane__workflow",)
    ordering = ("-id",)
    sortable_by = ()

    @admin.display(description="taken")
    def taken(self, slot: Any) -> str:
        return list_columns.moment(slot.taken_at, now=slot.as_of)

    @admin.display(description="lease ends")
    def expires(self, slot: Any) -> str:
        return list_columns.moment(slot.expires_at, now=slot.as_of)
