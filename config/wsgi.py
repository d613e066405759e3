"""The WSGI application. It handles the light endpoint and Stripe webhooks before Django."""

import gc
import io
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from reliability.metrics import multiprocess

multiprocess.prepare()  # before any counter exists
from scheduling import counting, light  # noqa: E402

_django = get_wsgi_application()
from reliability.api.common import chunked  # noqa: E402  # as above
from reliability.api.stripe import webhook  # noqa: E402  # its models need Django set up
from reliability.metrics import web  # noqa: E402  # as above

from . import entrance, measuring  # noqa: E402  # as above
from .database import roles  # noqa: E402  # as above

if settings.TRACES:
    from . import tracing  # its imports take memory, and few installations use it
call_command("check", stdout=io.StringIO())  # an invalid setting stops the start here, too; errors are raised
_secret = settings.CRON_SECRET
web.tidy()
# Loaded modules stay forever: freeze them, so that the garbage collector does not scan them again.
gc.collect()
gc.freeze()


def _known(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Handle any request but a reachability check."""
    slug = webhook.slug_of(environ["PATH_INFO"])
    if slug is not None:
        return _measured(environ, slug, start_response)
    chunked.give_length(environ)
    return _django(environ, start_response)


def _measured(environ: dict[str, Any], slug: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Handle a Stripe webhook, and count it as a view."""
    began = time.perf_counter()
    response = webhook.answer(environ=environ, slug=slug)
    took = time.perf_counter() - began
    method, status = environ["REQUEST_METHOD"], response.status_code
    measuring.count(view="stripe-webhook", method=method, status=status, seconds=took)
    return webhook.send(response=response, start_response=start_response)


_heavy = entrance.identified(roles.bounded(tracing.served(_known) if settings.TRACES else _known))
roles.become(roles.CONSOLE)  # for reads after the application has returned, of a streaming response


def _answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request. The usual check of a job that was reached before takes the fewest steps."""
    count = counting.reached.get(environ["PATH_INFO"])
    if count is not None and light.is_usual(environ=environ, secret=_secret):
        count()
        return light.respond(found=light.REACHABLE, method="GET", start_response=start_response)
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if light.is_light(method=method, path=path):
        found = light.answer(environ=environ, secret=_secret)
        counting.light(path=path, found=found)
        return light.respond(found=found, method=method, start_response=start_response)
    return _heavy(environ, start_response)


application: entrance.Application = entrance.logged(_answer) if settings.ACCESS_LOG else _answer
