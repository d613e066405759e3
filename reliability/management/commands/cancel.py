"""`manage.py cancel ID…`: cancel deliveries that are not being sent."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from reliability.core import clock
from reliability.delivery import control
from reliability.management.base import EachCommand


class Command(EachCommand):
    help = "Cancel waiting deliveries."

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        control.cancel(delivery_id=UUID(name), actor=self.actor(options), now=clock.now())
        return "cancelled"
