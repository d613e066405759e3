"""How `.env` is read, line by line, and that no message shows what is in it."""

import os
import subprocess
import sys

import pytest

from config import env, env_file

from ..support.newcomer import Newcomer

LINES = [
    # As it stands.
    ("A=b", "b"),
    ("A=$ecret", "$ecret"),
    ("A=${HOME}$(id)`id`", "${HOME}$(id)`id`"),
    ("A=b=c", "b=c"),
    ("A=b c", "b c"),
    ("A=b#c", "b#c"),
    ("A=#b", "#b"),
    ("A=", ""),
    ("A=it's", "it's"),
    (r"A=a\nb", r"a\nb"),
    ("A=a\u2028b", "a\u2028b"),
    ("A=grün", "grün"),
    # White space, `export`, Windows' line ends.
    ("  A  =  b  ", "b"),
    ("\tA\t=\tb\t", "b"),
    ("export A=b", "b"),
    ("export   A = b", "b"),
    ("exportA=b", None),
    ("A=b\r", "b"),
    ("A='b'\r", "b"),
    # A comment begins after white space.
    ("A=b # c", "b"),
    ("A=b\t# c", "b"),
    ("A=b  #", "b"),
    ("A= # c", ""),
    ("A=b #c # d", "b"),
    # Quotes.
    ("A='b'", "b"),
    ('A="b"', "b"),
    ("A = ' b '", " b "),
    ('A=" b # c "', " b # c "),
    ("A='b # c' # d", "b # c"),
    ('A="b"  # d', "b"),
    ("A='$ecret'", "$ecret"),
    ('A="$ecret"', "$ecret"),
    ("A=''", ""),
    ("""A='say "b"'""", 'say "b"'),
    ("""A="it's\"""", "it's"),
    (r'A="say \"b\""', 'say "b"'),
    (r'A="a\\b"', "a\\b"),
    (r'A="a\nb\$"', r"a\nb\$"),
    (r"A='a\\b'", r"a\\b"),
]


@pytest.mark.parametrize(("line", "value"), LINES, ids=[repr(one[0]) for one in LINES])
def test_a_line(line, value):
    assert env_file.parse(line).get("A") == value


@pytest.mark.parametrize("line", ["", "  ", "#", "# A=b", "  # A=b"])
def test_a_line_without_a_variable(line):
    assert env_file.parse(line) == {}


INVALID = [
    "A",
    "A b",
    "=b",
    "A B=c",
    "1A=b",
    "A-B=c",
    "A='b",
    'A="b',
    "A='b'c",
    "A='b'#c",
    'A="b" c',
    "export A",
    "A=b\0",
]


@pytest.mark.parametrize("line", INVALID)
def test_an_invalid_line(line):
    with pytest.raises(ValueError, match=r"^$"):
        env_file.parse(line)


@pytest.fixture
def problems(monkeypatch):
    monkeypatch.setattr(env, "problems", [])
    before = dict(os.environ)
    yield env.problems
    os.environ.clear()
    os.environ.update(before)


def test_a_byte_order_mark_hides_no_line_and_the_environment_wins(tmp_path, problems):
    path = tmp_path / ".env"
    path.write_bytes(b"\xef\xbb\xbfFIRST_ONE=1\r\nSECOND_ONE=2\nTHIRD_ONE=3\nTHIRD_ONE=4")
    os.environ["SECOND_ONE"] = "given"
    env.read_file(path)
    names = ("FIRST_ONE", "SECOND_ONE", "THIRD_ONE")
    assert [os.environ[one] for one in names] == ["1", "given", "4"]
    assert problems == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"A_KEY=1\nCRON_SECRET 'hunter2'\n", "Line 2: not NAME=value, or a quote is not closed."),
        (b"hunter2\nA_KEY='hunter2\nA_KEY=1", "Lines 1, 2: not NAME=value, or a quote is not closed."),
        (b"A_KEY=hunter2\xff", "The file is not UTF-8 text."),
        ("A_KEY=hunter2".encode("utf-16"), "The file is not UTF-8 text."),
    ],
)
def test_what_is_wrong_is_told_by_file_and_line_alone(tmp_path, problems, content, says):
    path = tmp_path / ".env"
    path.write_bytes(content)
    env.read_file(path)
    assert problems == [(".env", says)]


def test_an_invalid_line_stops_the_start_and_no_database_is_started_in_place_of_another(tmp_path):
    newcomer = Newcomer(tmp_path)
    (newcomer.root / ".env").write_text("DATABASE_URL postgresql://me:hunter2@db/backstop\n")
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=newcomer.root,
        env=newcomer.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert ".env: Line 1" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert not newcomer.data.exists()


def test_a_directory_in_the_files_place_is_named(tmp_path, monkeypatch):
    """Docker makes one where a file to mount is missing: without a word, another database would serve."""
    monkeypatch.setattr(env, "problems", [])
    (tmp_path / ".env").mkdir()
    env.read_file(tmp_path / ".env")
    assert env.problems == [(".env", "The file cannot be read: Is a directory.")]
    env.read_file(tmp_path / "missing")
    assert len(env.problems) == 1
