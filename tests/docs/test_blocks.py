"""Every block of the documents is of a known kind and well formed; every command that a text names exists."""

import pytest

from . import commands
from .blocks import ROOT, blocks, inline_code, kind_of, pages
from .checks import CHECKS, schedule_lines
from .shell import dialogue, found_in, requests_of

EVERY = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("block", EVERY, ids=str)
def test_a_block_is_of_a_known_kind_and_well_formed(block):
    assert block.kind, (
        f"{block.page}:{block.line}: of no known kind; give it a fence with a name of tests/docs/blocks.py"
    )
    CHECKS[block.kind](block)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_names_exist(page):
    texts = [(block.line, block.text) for block in blocks(page)] + inline_code(page)
    wrong = [f"{page.name}:{line}: {one}" for line, text in texts for one in commands.wrong_with(text)]
    assert not wrong


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("manage.py replay ID\n", "shell"),
        ("KEY=$(.venv/bin/python manage.py create_api_key --name shop)\n", "shell"),
        ("# first\ncurl -s http://127.0.0.1:8000/\n", "shell"),
        ("frobnicate --all\n", ""),
        ("manage.py replay [--dry-run]\n", "usage"),
        ("*/5 * * * *  curl -fsS x\n", "crontab"),
        ("CRON_SECRET=…\n0 9 * * MON  curl\n", "crontab"),
        ('POST /api/v1/slots/ {"a": 1}\n', "http"),
        ('{"a": 1}\n', "json"),
        ("on: {schedule: []}\n", "yaml"),
        ("resources: [a, b]\n", "yaml"),
        ("[databases]\na = b\n", "ini"),
        ("[1, 2]\n", "json"),
        ("$ manage.py cleanup\nrule\n", "console"),
        (" manage.py replay --all --dry-run\n", "shell"),
        ("ALTER TABLE a SET (b = 1);\n", "sql"),
        ("a ──► b\n", "text"),
        ("Dear reader,\n", ""),
    ],
)
def test_the_kind_of_a_block_without_a_name(text, kind):
    assert kind_of("", text) == kind


def test_a_fence_of_an_unknown_name_is_of_no_kind():
    assert kind_of("cobol", "manage.py replay ID\n") == ""


def test_a_block_is_split_where_its_commands_end():
    text = "echo '{\n}' \\\n  | cat\nKEY=$(echo a)\n\nfor one in 1 2; do\n  echo $one\ndone\n"
    text += "cat <<'END'\na\nEND\nmake run\n"
    found = commands.split(text)
    assert [one.split(maxsplit=1)[0] for one in found] == ["echo", "KEY=$(echo", "for", "cat", "make"]
    assert [commands.is_run(one) for one in found] == [True, True, True, True, False]
    assert not commands.is_run("DATABASE_URL=x HOST=y make run")
    assert not commands.is_run(".venv/bin/python manage.py procrastinate worker")
    assert not commands.is_run("manage.py worker --only n8n")
    assert commands.is_run("manage.py procrastinate healthchecks")
    assert not commands.is_run("cp ops/backstop.service /etc/systemd/system/")
    assert commands.is_run("curl -s https://backstop.example.com/etc/")
    assert not commands.is_run("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt")
    assert commands.is_run("printf 'make; git' | cat")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("manage.py replay --workflow x --dry-run", []),
        ("manage.py replay --softly", ["'replay' has no option --softly"]),
        ("manage.py rewind ID", ["there is no command 'rewind'"]),
        ("manage.py procrastinate worker --concurrency 5", []),
        ("as reliability/management/manage.py says", []),
    ],
)
def test_what_is_wrong_with_a_command(text, said):
    assert commands.wrong_with(text) == said


def test_output_is_compared_in_shape():
    said = '{"id": "0198f0f4-1111-7222-8333-444455556666", "state": "delivered", "attempt_count": 1}\n'
    assert found_in('{"id": "0198aaaa-1111-7222-8333-444455556666", … "state": "delivered", …', said)
    assert found_in('"attempt_count": 3', said)
    assert not found_in('"state": "dead"', said)


def test_a_dialogue_and_requests_are_read():
    assert dialogue("$ curl \\\n  -s x\n{}\n$ cat y\n") == [("curl \\\n  -s x", "{}\n"), ("cat y", "")]
    found = requests_of('POST /a/ {"b":\n 1}\nDELETE /a/<id>/\n')
    assert found == [("POST", "/a/", {"b": 1}), ("DELETE", "/a/<id>/", None)]
    assert schedule_lines("A=1\n# c\n0 9 * * MON  curl x\n") == [("0 9 * * MON", "curl x")]
