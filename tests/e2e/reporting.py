"""Workflows that answer before their work is done, and one that reports what failed."""

from reliability.models import ApiKey
from reliability.models.access import PREFIX_LENGTH, hash_key

from . import n8n as real

KEY = "bsk_a-key-for-what-n8n-reports-in-the-tests"
REPORTER = "e2ereporter"


def issue_key() -> None:
    """Make the key that the reporting workflow holds, whose text has to be known before the test."""
    ApiKey.objects.create(name="reporter", prefix=KEY[:PREFIX_LENGTH], hash=hash_key(KEY), scopes=["report"])


def workflows(backstop: str, vendor: int) -> list[dict]:
    """`reported` has the reporter as its error workflow; `unreported` has none."""
    reported = _eager("reported", vendor)
    reported["settings"]["errorWorkflow"] = REPORTER
    return [_reporter(backstop), reported, _eager("unreported", vendor)]


def _eager(slug: str, vendor: int) -> dict:
    made = real.workflow(slug, real.call(f"http://127.0.0.1:{vendor}/{slug}"))
    made["nodes"][0]["parameters"]["responseMode"] = "onReceived"
    return made


def _reporter(backstop: str) -> dict:
    parameters = {
        "method": "POST",
        "url": f"{backstop}/api/v1/executions/failed/",
        "sendHeaders": True,
        "headerParameters": {"parameters": [{"name": "X-API-Key", "value": KEY}]},
        "sendBody": True,
        "specifyBody": "json",
        "jsonBody": "={{ JSON.stringify($json) }}",
        "options": {},
    }
    report = real.node("Report", "httpRequest", 4.2, parameters, 2)
    return {
        "id": REPORTER,
        "name": "reporter",
        "nodes": [real.node("Failed", "errorTrigger", 1, {}, 1), report],
        "connections": {"Failed": {"main": [[{"node": "Report", "type": "main", "index": 0}]]}},
        "settings": {"executionOrder": "v1"},
        "active": False,
    }
