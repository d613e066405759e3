"""The ASGI application: what the web server runs. It takes requests under limits and has `config.wsgi` answer them."""

import gc

from django.conf import settings

from . import wsgi  # everything is set up by it
from .front import limits, sockets
from .front.application import FrontApplication

sockets.allow_connections()
application = FrontApplication(
    wsgi.application, secret=settings.CRON_SECRET, limits=limits.configured(), logs=settings.ACCESS_LOG
)
gc.collect()
gc.freeze()  # as at the end of `config.wsgi`, for what was loaded since
