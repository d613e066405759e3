"""Dead letters, exported."""

import csv
import io
import json
from urllib.parse import urlencode

import pytest

from reliability.dead_letters import export
from reliability.models import AuditEntry

from .dead_letters import LIST, signed_in


def exported(client, kind, **params) -> str:
    answer = client.post(f"{LIST}export/?{urlencode(params)}", {"kind": kind, "reason": "for the vendor"})
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode()


def test_the_filtered_list_is_exported_and_on_record(bury, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 2)
    monkeypatch.setattr(export, "BATCHED_PAYLOAD_LIMIT", 100)
    letters = [bury('{"b":1.50,\n"a":"' + "x" * size + '"}') for size in (1, 500, 2, 3, 4)]
    bury(slug="other")
    client = signed_in("operators")
    lines = exported(client, "jsonl", workflow="echo").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(one.pk) for one in letters[::-1]]
    assert json.loads(lines[3])["payload"]["a"] == "x" * 500
    assert '"b":1.50' in lines[0]
    entry = AuditEntry.objects.get(action="export_dead_letters")
    assert (entry.count, entry.reason) == (5, "for the vendor")
    assert entry.details == {"filter": {"workflow": "echo", "status": "dead"}, "format": "jsonl"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "\r", "＝"])
def test_no_cell_is_a_formula(bury, start):
    bury(message=f'{start}HYPERLINK("http://x","y")', code="=1+1")
    rows = list(csv.DictReader(io.StringIO(exported(signed_in("operators"), "csv").removeprefix("\ufeff"), newline="")))
    assert rows[0]["error_message"].startswith("'")
    assert rows[0]["error_code"] == "'=1+1"
    assert rows[0]["retry_count"] == "0"


@pytest.mark.parametrize(
    ("text", "cell"), [("a;=cmd", "a;'=cmd"), ("a\n@SUM", "a\n'@SUM"), ('x; "+1', "x; \"'+1"), ("a; b=1", "a; b=1")]
)
def test_no_part_of_a_cell_is_a_formula_where_another_sign_parts_them(bury, text, cell):
    bury(message=text)
    rows = list(csv.DictReader(io.StringIO(exported(signed_in("operators"), "csv").removeprefix("\ufeff"), newline="")))
    assert rows[0]["error_message"] == cell


def test_an_export_of_nonsense_gives_nothing(bury):
    bury()
    client = signed_in("operators")
    for address, values in [
        ("?after=yesterday", {"kind": "csv", "reason": "x"}),
        ("", {"kind": "exe", "reason": "x"}),
        ("", {"kind": "csv", "reason": " "}),
    ]:
        answer = client.post(f"{LIST}export/{address}", values, follow=True)
        assert "Nothing was exported" in answer.content.decode()
    assert client.get(f"{LIST}export/").status_code == 302
    assert not AuditEntry.objects.exists()
