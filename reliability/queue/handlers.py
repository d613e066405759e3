"""The functions that do the work of the worker's tasks.

The packages that own the work are above this one in the import order, so they register their functions here when the
application starts. A function is registered by its dotted path and imported for its first job: a web server, which runs
no jobs, does not load it.
"""

from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

Handler = Callable[..., Any]
_paths: dict[str, str] = {}


def register(*, task: str, path: str) -> None:
    """Register the function at the dotted `path` for jobs of `task`."""
    _paths[task] = path


def registered() -> dict[str, str]:
    """Return the dotted path of each task's function, by the task's name."""
    return dict(_paths)


def handler(*, task: str) -> Handler:
    """Return the function that does the work of `task`. Raises `LookupError` where none is registered."""
    if task not in _paths:
        raise LookupError(f"No function is registered for the task '{task}' (`reliability.queue.handlers`).")
    found: Handler = import_string(_paths[task])
    return found
