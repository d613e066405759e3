"""The WSGI application. The light endpoint and Stripe's webhooks are answered here, before anything of Django's."""

import gc
import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from scheduling import light

_django = get_wsgi_application()
from reliability import stripe_webhook  # noqa: E402  # its models need Django set up
from reliability.api import chunked  # noqa: E402  # as above

call_command("check")  # a senseless setting stops the start here, too
_secret = settings.CRON_SECRET
# What is loaded by now stays: the garbage collector need not walk through it again with every round.
gc.collect()
gc.freeze()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if light.is_light(method=method, path=path):
        found = light.answer(environ=environ, secret=_secret)
        return light.respond(found=found, method=method, start_response=start_response)
    slug = stripe_webhook.slug_of(path)
    if slug is not None:
        return stripe_webhook.respond(environ=environ, slug=slug, start_response=start_response)
    chunked.give_length(environ)
    return _django(environ, start_response)
