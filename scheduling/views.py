"""The cron endpoints."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from . import light


@csrf_exempt
@require_http_methods(["GET", "HEAD"])
def reachable(request: HttpRequest) -> HttpResponse:
    """Answer the light reachability check, where no WSGI application of ours is in front to do it."""
    found = light.answer(environ=request.META, secret=settings.CRON_SECRET)
    status = int(found.status.partition(" ")[0])
    return HttpResponse(found.body, status=status, content_type="application/json")
