"""`manage.py import_workflows FILE…`"""

from collections.abc import Sequence
from typing import Any

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.core.json_files import Imported
from reliability.management.base import ImportCommand
from reliability.n8n import workflow_files


class Command(ImportCommand):
    help = "Import workflow policies from JSON files, all or none. Importing the same file again changes nothing."

    def load(self, documents: Sequence[dict[str, Any]], actor: Actor) -> Sequence[Imported]:
        return workflow_files.load(documents=documents, actor=actor, now=clock.now())
