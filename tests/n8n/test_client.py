"""n8n's REST API behind a proxy: only n8n's own JSON says anything final."""

import pytest

from reliability.core import clock
from reliability.core.audit import Actor
from reliability.models import DeadLetter, ExecutionRetry, FailureReport
from reliability.n8n import client as n8n_client
from reliability.n8n import delivery_lookup, execution_retry

from ..support.bodies import failed
from ..support.receiver import Reply

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = [
    *(Reply(status, "<html>nginx</html>", {"Content-Type": "text/html"}) for status in (400, 401, 403, 404, 405, 413)),
    *(Reply(status, "<html>nginx</html>", {"Content-Type": "text/html"}) for status in (500, 502, 503, 504)),
    *(Reply(status, "", {"Location": "https://elsewhere.example/"}) for status in (301, 302, 307, 308)),
    *(Reply(status, '{"message": "of a proxy"}') for status in (301, 405, 407, 421, 451)),
    Reply(404, "404 page not found\n"),
    Reply(404, "<pre>Cannot GET /api/v1/executions/2</pre>"),
    Reply(200, "n8n is starting up. Please wait"),
    Reply(200, "<html>sign in</html>"),
    Reply(200, "[]"),
]
FINAL = [
    (401, n8n_client.Unauthorised),
    (403, n8n_client.Unauthorised),
    (404, n8n_client.UnknownToN8n),
    (400, n8n_client.RequestRefused),
]


@pytest.fixture
def proxy(receiver, settings):
    settings.N8N_API_URL, settings.N8N_API_KEY = receiver.url.removesuffix("/webhook"), "key"
    return receiver


@pytest.mark.parametrize("page", PAGES, ids=lambda one: f"{one.status} {one.body[:8]}")
def test_a_proxy_s_page_says_nothing(proxy, page):
    proxy.rule = lambda got: page
    with pytest.raises(n8n_client.Unavailable) as caught:
        n8n_client.execution(execution_id="2")
    certain = page.status not in (200, *range(500, 600)) or "starting" in page.body
    assert caught.value.begun is not certain


@pytest.mark.parametrize(("status", "error"), FINAL)
def test_n8n_s_own_answer_is_final(proxy, status, error):
    proxy.always(status, '{"message": "said by n8n"}')
    with pytest.raises(error):
        n8n_client.execution(execution_id="2")


@pytest.mark.parametrize("page", PAGES[:-2], ids=lambda one: f"{one.status} {one.body[:8]}")
def test_a_proxy_s_page_ends_no_retry_and_no_look_up(proxy, api, page):
    report = api.post("/api/v1/executions/failed/", failed("2"), content_type="application/json")
    assert report.status_code == 201
    made = FailureReport.objects.get()
    proxy.rule = lambda got: page
    delivery_lookup.look_up(report_id=made.pk)
    made.refresh_from_db()
    assert made.state == "looking_up"
    proxy.always(404, '{"message": "not found"}')
    delivery_lookup.look_up(report_id=made.pk)
    letter = DeadLetter.objects.get()
    begun = execution_retry.begin(dead_letter_id=letter.pk, actor=Actor("t"), now=clock.now())
    proxy.rule = lambda got: page
    execution_retry.process(retry_id=begun.pk)
    letter.refresh_from_db()
    assert (ExecutionRetry.objects.get().state, letter.status) == ("pending", "replaying")
