"""`manage.py revoke_api_key PREFIX…`: refuse keys from now on."""

from collections.abc import Mapping
from typing import Any

from reliability.core import clock
from reliability.errors import NotFound
from reliability.management.base import EachCommand
from reliability.models import ApiKey
from reliability.setup import api_keys


class Command(EachCommand):
    help = "Refuse API keys from now on. A key is named by its first characters, as the console lists them."
    metavar = "PREFIX"

    def act(self, name: str, options: Mapping[str, Any]) -> str:
        found = ApiKey.objects.filter(prefix=name).values_list("pk", flat=True).first()
        if found is None:
            raise NotFound("There is no such API key.")
        api_keys.revoke(key_id=found, actor=self.actor(options), now=clock.now())
        return "revoked"
