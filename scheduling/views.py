"""The cron endpoints."""

import time

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from config.database.sqlstates import is_unavailable
from reliability.api.common import problems
from reliability.api.common.addresses import address_of
from reliability.api.common.serializers import KEY_LENGTH
from reliability.errors import BackstopError, InvalidInput, NotFound

from . import counting, jobs, light
from .jobs import Caller, Disabled, Ran

METHODS = ("GET", "HEAD", "POST")


@csrf_exempt
def cron(request: HttpRequest, job: str) -> HttpResponse:
    """Answer the light reachability check, or run the job."""
    if request.method not in METHODS:
        return problems.problem(status=405, headers={"Allow": ", ".join(METHODS)})
    began = time.perf_counter()
    found = light.answer(environ=request.META, secret=settings.CRON_SECRET)
    if request.method != "POST":
        counting.light(path=request.path_info, found=found)
    elif found is light.REACHABLE:
        return _run(request, job, began)
    else:
        counting.post(job=job, result="forbidden" if found is light.FORBIDDEN else "no_secret")
    status = int(found.status.partition(" ")[0])
    return HttpResponse(found.body, status=status, content_type="application/json")


def _run(request: HttpRequest, job: str, began: float) -> HttpResponse:
    """Run a job. The body of the request is not read."""
    result = "error"
    try:
        caller = Caller(address_of(request.META), began)
        ran = jobs.ping(slug=job, key=_key(request), caller=caller)
        result = "skipped" if ran.skipped and not ran.repeated else "repeated" if ran.repeated else "started"
    except BackstopError as refusal:
        result = _refused(refusal)
        return problems.handle(refusal, {}) or problems.problem(status=500)
    except Error as error:
        if not is_unavailable(error):
            raise
        return problems.not_kept(error=error, doing="cron")  # the slot or the key makes a repeat safe
    finally:
        counting.post(job=job, result=result, seconds=time.perf_counter() - began)
    return _answer(ran)


def _refused(refusal: BackstopError) -> str:
    if isinstance(refusal, NotFound):
        return "unknown"
    return "disabled" if isinstance(refusal, Disabled) else "error"


def _answer(ran: Ran) -> HttpResponse:
    body = {
        "ok": True,
        "job": ran.job,
        "delivery_ids": [str(one) for one in ran.deliveries],
        "run": str(ran.run),
        "slot": jobs.iso(ran.slot),
    }
    if ran.skipped:
        body["skipped"] = "overlap"
    headers = {"Idempotent-Replayed": "true"} if ran.repeated else {}
    return JsonResponse(body, status=200 if ran.repeated else 202, headers=headers)


def _key(request: HttpRequest) -> str | None:
    """Return the `Idempotency-Key` of the run. Raises `InvalidInput`."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise InvalidInput(errors={"Idempotency-Key": [f"Must be 1 to {KEY_LENGTH} printable ASCII characters."]})
    return key
