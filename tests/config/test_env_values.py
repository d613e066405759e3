"""What each reader makes of a value: as it stands, or refused under its variable's name without being repeated."""

import psycopg
import pytest

from config import env

NAME = "BACKSTOP_TEST_VALUE"


@pytest.fixture
def read(monkeypatch):
    """Read a value by a reader; return what it gives, and what is wrong."""

    def make(reader, value, *arguments, **options):
        monkeypatch.setattr(env, "problems", [])
        monkeypatch.setenv(NAME, value)
        found = reader(NAME, *arguments, **options)
        assert all(name == NAME for name, _ in env.problems)
        return found, " ".join(message for _, message in env.problems)

    return make


@pytest.mark.parametrize(
    "value",
    ["$ecret", "$$", "$HOME", "${HOME}", r"\$x", "a#b", "a # b", "a b", "'quoted'", '"quoted"', " a ", "grün", "%40"],
)
def test_text_is_taken_as_it_stands(read, value):
    assert read(env.text, value) == (value, "")


def test_nothing_is_the_default(read):
    assert read(env.text, "", "else") == ("else", "")


@pytest.mark.parametrize("value", ["$ecret", "a b", "a#b", "'x'", "grün"])
def test_a_credential_is_taken_as_it_stands(read, value):
    assert read(env.credential, value) == (value, "")


@pytest.mark.parametrize("value", [" hunter2", "hunter2\n", "hunter2\r\n", "hun\tter2", "hunter2\x7f"])
def test_a_credential_that_no_header_carries_is_refused(read, value):
    found, wrong = read(env.credential, value)
    assert found == ""
    assert wrong
    assert "hunter2" not in wrong


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("http://n8n:5678/webhook", "http://n8n:5678/webhook"),
        (" https://n8n.example.com/webhook/ ", "https://n8n.example.com/webhook"),
        ("https://user:p%40ss@n8n.example.com", "https://user:p%40ss@n8n.example.com"),
        ("http://[::1]:5678", "http://[::1]:5678"),
    ],
)
def test_an_address(read, value, found):
    assert read(env.url, value) == (found, "")


@pytest.mark.parametrize(
    "value",
    [
        "https://n8n.example.com/webhook?token=hunter2",
        "https://n8n.example.com/webhook?",
        "https://n8n.example.com/webhook#hunter2",
        "https://n8n.example.com#",
    ],
)
def test_a_base_address_ends_before_a_query(read, value):
    found, wrong = read(env.url, value, "http://127.0.0.1:5678/webhook")
    assert found == "http://127.0.0.1:5678/webhook"
    assert "Backstop appends paths to this URL" in wrong
    assert "hunter2" not in wrong


def test_an_address_that_is_no_base_keeps_its_query_and_its_slash(read):
    value = "https://hooks.example.com/a/?token=$1#x"
    assert read(env.url, value, is_base=False) == (value, "")


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "ftp://me:hunter2@host",
        "https://",
        "http://[hunter2",
        "http://me:hunter2@host:port",
        "https://a b/hunter2",
        "https://a\thunter2",
        "https:\\\\hunter2",
        "https://me:hunter2/x@host",
        "https://me:hunter2#x@host",
        "https://me:hunter2?x@host",
        "$hunter2",
    ],
)
@pytest.mark.parametrize("is_base", [True, False])
def test_what_is_no_address_is_refused_unrepeated(read, value, is_base):
    found, wrong = read(env.url, value, is_base=is_base)
    assert found == ""
    assert wrong.startswith("Must be an http or https URL.")
    assert ("as %40, %2F" in wrong) == ("@" in value)


@pytest.mark.parametrize(
    ("value", "found"),
    [("a,b", ["a", "b"]), (" a , b ", ["a", "b"]), (",", ["x"]), ("", ["x"]), ("$a,#b", ["$a", "#b"])],
)
def test_a_list(read, value, found):
    assert read(env.words, value, ["x"]) == (found, "")


@pytest.mark.parametrize(("value", "found"), [("", {}), ('{"a": "$b # c"}', {"a": "$b # c"}), (' {"a": 1} ', {"a": 1})])
def test_an_object(read, value, found):
    assert read(env.mapping, value) == (found, "")


@pytest.mark.parametrize(
    ("reader", "value", "arguments"),
    [
        (env.mapping, "hunter2", {}),
        (env.mapping, '["hunter2"]', {}),
        (env.mapping, '"$hunter2"', {}),
        (env.boolean, "hunter2", {"default": False}),
        (env.boolean, "$TRUE_hunter2", {"default": False}),
        (env.integer, "hunter2", {"default": 1, "low": 0, "high": 9}),
        (env.integer, "$1hunter2", {"default": 1, "low": 0, "high": 9}),
        (env.decimal, "hunter2", {"default": 1, "low": 0, "high": 9}),
        (env.choice, "hunter2", {"default": "a", "among": ("a", "b")}),
        (env.slug, "Hunter2 hunter2", {"pattern": "[a-z]+"}),
        (env.addresses, "ada@example.com, hunter2", {}),
        (env.mail, "smtp://ada:hunter2@host:port", {}),
        (env.mail, "$hunter2", {}),
        (env.database, "$hunter2", {}),
        (env.database, "hunter2", {}),
        (env.database, "postgresql://me:hunter2@host:port/name", {}),
        (env.database, "postgresql://me:hunter2@host/name?conn_max_age=60", {}),
        (env.database, "postgresql://me:hunter2%zz@host/name", {}),
        (env.database, "postgresql://me:hunter2@host", {}),
        (env.database, "mysql://me:hunter2@host/name", {}),
        (env.database, "host=db password=hunter2 dbname=name", {}),
        (env.database, "   ", {}),
    ],
)
def test_what_makes_no_sense_is_refused_unrepeated(read, reader, value, arguments):
    _, wrong = read(reader, value, **arguments)
    assert wrong
    assert "hunter2" not in wrong.lower()


PASSWORDS = ["hunter2@x", "hunter2@", "@hunter2", "5/hunter2", "hunter2/x", "5/hunter2?x=y", "a@b/hunter2", "hunter2%x"]


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        *((env.database, f"postgresql://me:{one}@db.example.com:5432/name") for one in PASSWORDS),
        (env.database, "postgresql://me@hunter2.example:p@db/name"),
        (env.database, "postgresql://me:hunter2 x@db/name"),
        *((env.mail, f"smtp+tls://me:{one}@host:587") for one in ("hunter2/x", "5/hunter2", "5#hunter2", "5?hunter2")),
    ],
)
def test_a_password_that_is_not_encoded_is_refused_by_the_name_of_its_setting(read, reader, value):
    _, wrong = read(reader, value)
    assert "as %40, %2F" in wrong
    assert "hunter2" not in wrong


@pytest.mark.parametrize(("value", "found"), [(" 7 ", 7), ("", 1), ("0", 0)])
def test_a_number(read, value, found):
    assert read(env.integer, value, 1, low=0, high=9) == (found, "")


DATABASES = [
    ("postgresql://me:p@db.example.com:5433/name", ("db.example.com", "5433", "me", "p", "name"), {}),
    ("postgres://me@db/name", ("db", "", "me", "", "name"), {}),
    ("postgresql://me:a%40b%2Fc%25$d#e@db/name", ("db", "", "me", "a@b/c%$d#e", "name"), {}),
    ("postgresql://me:a?b:c#d&e=f@db/name", ("db", "", "me", "a?b:c#d&e=f", "name"), {}),
    (
        "postgresql://me%40corp:p@db/name?application_name=a@b",
        ("db", "", "me@corp", "p", "name"),
        {"application_name": "a@b"},
    ),
    ("postgresql://me@%40abstract/name", ("@abstract", "", "me", "", "name"), {}),
    ("postgresql://me:a+b@db/na+me", ("db", "", "me", "a+b", "na+me"), {}),
    ("postgresql://me@%2Fvar%2Frun%2Fpostgresql/name", ("/var/run/postgresql", "", "me", "", "name"), {}),
    ("postgresql://me@%2FUpper%2FCase:5433/name", ("/Upper/Case", "5433", "me", "", "name"), {}),
    ("postgresql://me@/name?host=/var/run/postgresql", ("/var/run/postgresql", "", "me", "", "name"), {}),
    ("postgresql:///name?user=me&password=p%20q", ("", "", "me", "p q", "name"), {}),
    ("postgresql://me@[::1]:5432/name", ("::1", "5432", "me", "", "name"), {}),
    (
        "postgresql://me@a:1,b:2/name?target_session_attrs=read-write",
        ("a,b", "1,2", "me", "", "name"),
        {"target_session_attrs": "read-write"},
    ),
    (
        "postgresql://me@db/name?sslmode=verify-full&connect_timeout=5",
        ("db", "", "me", "", "name"),
        {"sslmode": "verify-full", "connect_timeout": "5"},
    ),
]


@pytest.mark.parametrize(("value", "parts", "options"), DATABASES, ids=[one[0] for one in DATABASES])
def test_a_database(read, value, parts, options):
    found, wrong = read(env.database, value)
    assert wrong == ""
    assert tuple(found[one] for one in ("HOST", "PORT", "USER", "PASSWORD", "NAME")) == parts
    assert found["OPTIONS"] == options


@pytest.mark.django_db
def test_a_percent_encoded_socket_directory_connects():
    """To the tests' own server, which listens on a socket."""
    from urllib.parse import quote

    from django.db import connection

    values = connection.settings_dict
    if not values["HOST"].startswith("/"):
        pytest.skip("the tests' server is reached by TCP")
    found = env.database(
        "BACKSTOP_UNSET", default=f"postgresql://{values['USER']}@{quote(values['HOST'], safe='')}/postgres"
    )
    with psycopg.connect(host=found["HOST"], user=found["USER"], dbname=found["NAME"]) as made:
        assert made.execute("SELECT 1").fetchone() == (1,)
