"""What commands read: refused with a sentence where it cannot be used, never half understood."""

import io
import json
import sys

import pytest
from django.core.management import CommandError, call_command

from reliability.management import base
from reliability.models import Workflow
from scheduling.models import CronJob

pytestmark = pytest.mark.django_db
GOOD = {"name": "A", "path": "a"}
BAD = {
    '{"name": "A", "path": "a", "path": "b"}': "'path' is given twice.",
    '[{"name": "A", "name": "B", "path": "a"}]': "'name' is given twice.",
    '{"name": "A\\u0000", "path": "a"}': "A string contains a NUL, which cannot be stored.",
    '{"name": "A\\ud800", "path": "a"}': "A string contains half of a surrogate pair, which cannot be stored.",
    '{"name": "A", "path": "a", "jitter_factor": NaN}': "NaN is not JSON.",
    '{"name": "A", "path": "a", "jitter_factor": 1e999}': "The file contains a number that is too large.",
    "[" * 200_000: "The file is nested more than 100 levels deep.",
    "[" * 101 + "]" * 101: "The file is nested more than 100 levels deep.",
    "[1]": "The file must be a JSON object, or a list of objects.",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("command", ["import_workflows", "import_cron_jobs"])
def test_a_file_that_makes_no_sense_changes_nothing(tmp_path, command, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(CommandError) as refused:
        call_command(command, str(file))
    assert str(refused.value) == f"{file}: {BAD[text]}"
    assert not Workflow.objects.exists()


def test_a_file_without_an_end_is_not_read_to_it(monkeypatch):
    monkeypatch.setattr(base, "INPUT_LIMIT", 1000)
    with pytest.raises(CommandError, match="/dev/zero: larger than the limit of 1,000 characters"):
        call_command("import_workflows", "/dev/zero")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[" * 2000)))
    with pytest.raises(CommandError, match="larger than the limit of 1,000 characters"):
        call_command("import_workflows", "-")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([GOOD]), encoding="utf-8-sig")
    call_command("import_workflows", str(file))
    assert Workflow.objects.get().path == "a"


def test_a_job_with_a_payload_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"slug": "nightly", "period_seconds": 60, "payload": {"a": 1.5}}))
    call_command("import_cron_jobs", str(file))
    assert CronJob.objects.get(slug="nightly").payload == {"a": 1.5}


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("{", "The payload is not JSON: Expecting property name"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "\\u0000"}', "A string contains a NUL"),
        ("[" * 101 + "]" * 101, "The payload is nested more than 100 levels deep"),
        ("1", "not a JSON object or array"),
    ],
)
def test_an_edited_payload_has_to_be_sound(payload, why):
    with pytest.raises(CommandError, match=f"--payload: {why}"):
        call_command("replay", "01a22cee-b2c0-72f5-add9-0a94a91742c0", payload=payload)
