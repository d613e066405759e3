"""`manage.py revoke_api_key PREFIX…`: revoke API keys."""

from collections.abc import Mapping
from typing import Any

from reliability.core import clock
from reliability.errors import NotFound
from reliability.management.base import EachCommand
from reliability.models import ApiKey
from reliability.setup import api_keys


class Command(EachCommand):
    help = "Revoke API keys. Give the prefix of each key, as the console lists it."
    metavar = "PREFIX"

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        found = ApiKey.objects.filter(prefix=name).values_list("pk", flat=True).first()
        if found is None:
            raise NotFound("No such API key.")
        api_keys.revoke(key_id=found, actor=self.actor(options), now=clock.now())
        return "revoked"
