"""The files of `n8n/`: whole, importable, without secrets."""

import json
import re
from pathlib import Path

import pytest
from django.core.management import call_command

from reliability.models import Workflow

FOLDER = Path(__file__).resolve().parents[1] / "n8n"
FILES = sorted((FOLDER / "workflows").glob("*.json"))
ERROR_HANDLER = "bsErrorHandler01"
# What n8n 2 has today. A newer version of a node is taken in here together with a run of the suite against n8n.
VERSIONS = {
    "webhook": 2,
    "set": 3.4,
    "code": 2,
    "if": 2,
    "httpRequest": 4.2,
    "crypto": 2,
    "errorTrigger": 1,
    "respondToWebhook": 1,
}
CREDENTIALS = {"httpHeaderAuth": "Backstop API key", "crypto": "Stripe signing secret"}
TRIGGERS = ("n8n-nodes-base.webhook", "n8n-nodes-base.errorTrigger")
SECRETS = re.compile(r"bsk_|whsec_|sk_live|sk_test|Bearer \w|eyJ")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def document(path) -> dict:
    return json.loads(path.read_text())


def nodes(document: dict) -> dict[str, dict]:
    return {one["name"]: one for one in document["nodes"]}


def targets(document: dict) -> list[tuple[str, str]]:
    return [
        (source, one["node"])
        for source, outputs in document["connections"].items()
        for output in outputs["main"]
        for one in output
    ]


def test_all_five_are_there():
    assert [path.stem for path in FILES] == [
        "client-onboarding",
        "error-handler",
        "notify-gap-fill",
        "stripe-guarded",
        "weekly-recap",
    ]


def test_ids_are_fixed_and_their_own(document):
    assert re.fullmatch(r"\w{16}", document["id"])
    for key in ("id", "name"):
        found = [one[key] for one in document["nodes"]]
        assert len(set(found)) == len(found)


def test_ids_differ_between_the_files():
    documents = [json.loads(path.read_text()) for path in FILES]
    found = [one["id"] for one in documents] + [node["id"] for one in documents for node in one["nodes"]]
    assert len(set(found)) == len(found)


def test_nodes_are_those_of_today(document):
    for one in document["nodes"]:
        package, _, kind = one["type"].partition(".")
        assert package == "n8n-nodes-base"
        assert one["typeVersion"] == VERSIONS[kind], one["name"]


def test_connections_and_expressions_name_nodes_that_exist(document):
    names = nodes(document).keys()
    assert {name for pair in targets(document) for name in pair} <= names
    assert set(re.findall(r"\$\('([^']+)'\)", json.dumps(document["nodes"]))) <= names


def test_every_node_is_reached(document):
    reached = {name for name, one in nodes(document).items() if one["type"] in TRIGGERS}
    assert len(reached) == 1
    for _ in document["nodes"]:
        reached |= {target for source, target in targets(document) if source in reached}
    assert reached == nodes(document).keys()


def test_a_failure_is_reported(path, document):
    expected = None if path.stem == "error-handler" else ERROR_HANDLER
    assert document["settings"].get("errorWorkflow") == expected
    assert (document["id"] == ERROR_HANDLER) is (path.stem == "error-handler")


def test_webhooks_take_a_post_at_the_path_of_the_file(path, document):
    for one in document["nodes"]:
        if one["type"] == "n8n-nodes-base.webhook":
            assert one["parameters"]["httpMethod"] == "POST"
            # A webhook that answers at once would hide what happens later.
            assert one["parameters"]["responseMode"] in ("lastNode", "responseNode")
            assert one["parameters"]["path"] == one["webhookId"] == path.stem


def test_credentials_are_named_and_nothing_more(path, document):
    assert not SECRETS.search(path.read_text())
    for one in document["nodes"]:
        for kind, named in one.get("credentials", {}).items():
            # Without an id, n8n looks the credential up by its name when the file is imported.
            assert named == {"id": None, "name": CREDENTIALS[kind]}


def test_every_address_is_set_in_the_settings(document):
    for one in document["nodes"]:
        if one["type"] == "n8n-nodes-base.httpRequest":
            assert re.match(r"=\{\{ \$(\('Settings'\)\.first\(\)\.json|json)\.\w+_url \}\}", one["parameters"]["url"])
    rows = nodes(document)["Settings"]["parameters"]["assignments"]["assignments"]
    for one in rows:
        if one["name"].endswith("_url"):
            assert re.match(r"https://\w+\.example\.com\b", one["value"])


def test_every_call_passes_a_key_on(path, document):
    for one in document["nodes"]:
        if one["type"] == "n8n-nodes-base.httpRequest" and path.stem != "error-handler":
            sent = [header["name"] for header in one["parameters"]["headerParameters"]["parameters"]]
            assert "Idempotency-Key" in sent, one["name"]


@pytest.mark.django_db
def test_backstop_knows_them_from_its_own_file(capsys):
    for result in ("created", "unchanged"):
        call_command("import_workflows", str(FOLDER / "backstop-workflows.json"))
        assert capsys.readouterr().out.count(f": {result}") == 4
    paths = [path.stem for path in FILES if path.stem != "error-handler"]
    assert sorted(Workflow.objects.values_list("path", flat=True)) == paths
