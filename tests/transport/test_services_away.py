"""n8n's REST API and an alert's webhook that do not answer, or do not do what they are asked for."""

import socket
import ssl

import pytest
import requests
import responses

from reliability.alerts import channels
from reliability.models import AlertChannel, AlertNotice
from reliability.n8n import client as n8n_client

from ..support.wire import broken, proxy

pytestmark = pytest.mark.usefixtures("own_session")


@pytest.fixture
def api(settings):
    settings.N8N_API_URL, settings.N8N_API_KEY = "http://n8n/api/v1", "geheimer-schluessel"


@pytest.mark.parametrize(
    ("error", "begun"),
    [
        (broken(ConnectionRefusedError(111, "x")), False),
        (broken(socket.gaierror(-2, "x")), False),
        (requests.ConnectTimeout(), False),
        (requests.exceptions.SSLError(ssl.SSLError(1, "x")), False),
        (requests.exceptions.InvalidSchema("x"), False),
        (requests.ReadTimeout(), True),
        (broken(ConnectionResetError(104, "x")), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_n8n_s_api_that_does_not_answer(api, error, begun):
    with responses.RequestsMock() as mock:
        mock.post("http://n8n/api/v1/executions/1/retry", body=error)
        with pytest.raises(n8n_client.Unavailable) as raised:
            n8n_client.retry_execution(execution_id="1", load_workflow=False)
    assert raised.value.begun is begun


@pytest.mark.parametrize(
    ("status", "body", "kind", "begun"),
    [
        (401, '{"message": "unauthorized"}', n8n_client.Unauthorised, None),
        (403, '{"message": "Forbidden"}', n8n_client.Unauthorised, None),
        (401, "", n8n_client.Unavailable, False),
        (403, "<html>", n8n_client.Unavailable, False),
        (404, "404 page not found", n8n_client.Unavailable, False),
        (404, '{"message": "Not found"}', n8n_client.UnknownToN8n, None),
        (409, '{"message": "x"}', n8n_client.RequestRefused, None),
        (301, "", n8n_client.Unavailable, False),
        (429, "", n8n_client.Unavailable, False),
        (500, "", n8n_client.Unavailable, True),
        (502, "<html>", n8n_client.Unavailable, True),
        (200, "<html>", n8n_client.Unavailable, True),
        (200, "[]", n8n_client.Unavailable, True),
        (200, "", n8n_client.Unavailable, True),
    ],
)
def test_n8n_s_api_that_does_not_do_it(api, status, body, kind, begun):
    with responses.RequestsMock() as mock:
        mock.post("http://n8n/api/v1/executions/1/retry", status=status, body=body)
        with pytest.raises(kind) as raised:
            n8n_client.retry_execution(execution_id="1", load_workflow=False)
    assert type(raised.value) is kind
    assert getattr(raised.value, "begun", None) is begun


@pytest.mark.parametrize(
    ("url", "key", "named"),
    [("nonsense", "geheim", "N8N_API_URL"), ("http://127.0.0.1:1/", "schlüssel–", "N8N_API_KEY")],
)
def test_n8n_s_api_names_the_setting(settings, url, key, named):
    settings.N8N_API_URL, settings.N8N_API_KEY = url, key
    with pytest.raises(n8n_client.Unavailable) as raised:
        n8n_client.execution(execution_id="1")
    assert named in raised.value.detail
    assert key not in raised.value.detail
    assert not raised.value.begun


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"status": 404}, "The webhook answered HTTP 404."),
        ({"status": 302}, "The webhook answered HTTP 302."),
        ({"body": requests.ReadTimeout()}, "The webhook cannot be reached: read_timeout."),
        ({"body": broken(ConnectionRefusedError(111, "x"))}, "The webhook cannot be reached: connection_refused."),
        ({"body": broken(ConnectionResetError(104, "x"))}, "connection_lost_after_send"),
        ({"body": requests.exceptions.InvalidSchema("x")}, "ALERT_WEBHOOK_URL has an address that cannot be used."),
    ],
)
def test_an_alert_s_webhook_that_does_not_take_it(settings, answer, text):
    settings.ALERT_WEBHOOK_URL = "http://hooks/secret-token"
    notice = AlertNotice(channel=AlertChannel.WEBHOOK, changes=[])
    with responses.RequestsMock() as mock:
        mock.post("http://hooks/secret-token", **answer)
        with pytest.raises(channels.NotSent) as raised:
            channels.send(notice=notice)
    assert text in raised.value.detail
    assert "secret-token" not in raised.value.detail


def test_an_alert_s_webhook_behind_a_proxy_that_refuses_names_the_proxy(settings, wire, monkeypatch):
    between = wire(proxy(b"HTTP/1.1 403 Forbidden\r\n\r\n"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{between.port}")
    settings.ALERT_WEBHOOK_URL = "https://hooks.example.com/secret-token"
    with pytest.raises(channels.NotSent, match="HTTPS_PROXY refused"):
        channels.send(notice=AlertNotice(channel=AlertChannel.WEBHOOK, changes=[]))
