"""`manage.py send_now ID…`: make waiting deliveries due at once."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from reliability.core import clock
from reliability.delivery import control
from reliability.management.base import EachCommand


class Command(EachCommand):
    help = "Make waiting deliveries due now. Limits, pauses and breakers still apply."

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        control.send_now(delivery_id=UUID(name), actor=self.actor(options), now=clock.now())
        return "due now"
