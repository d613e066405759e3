"""The registry of failures is complete: no module assigns an error code that the registry does not know."""

import ast
import enum
from pathlib import Path

import pytest

import reliability
from reliability.policies.error_codes import ErrorCode, Reason, reason_label, reason_of

# Calls that assign an error code to a failure, by the position of the code among their arguments.
ASSIGNING = {"Classified": 1, "LocalFault": 0, "NoReply": 2, "_down": 0, "_as_dead_letter": 1, "ExecutionResult": 1}
# Where failures are classified and recorded. The rest of the code has other codes: of API errors, and of the demo.
PACKAGES = ("policies", "transport", "lanes", "delivery", "n8n", "dead_letters")
ROOT = Path(reliability.__file__).parent


def literal_codes(source: str) -> list[str]:
    """Return the error codes that are written as text instead of as a member of `ErrorCode`."""
    found = []
    for call in [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.Call)]:
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        place = ASSIGNING.get(name)
        codes = call.args[place : place + 1] if place is not None else []
        codes += [one.value for one in call.keywords if one.arg == "code"]
        texts = [one for code in codes for one in ast.walk(code) if isinstance(one, ast.Constant)]
        found += [one.value for one in texts if isinstance(one.value, str) and one.value]
    return found


def test_every_module_takes_its_codes_from_the_registry():
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): literal_codes(path.read_text()) for path in modules}
    # The status of a response is part of the code, and rules say its reason.
    assert {name: codes for name, codes in found.items() if codes} == {"policies/classification.py": ["http_"]}


def test_the_scan_finds_a_code_that_is_written_as_text():
    assert literal_codes('Classified(outcome, "new_code", text)') == ["new_code"]
    assert literal_codes('Failure(code="a" if crashed else "b")') == ["a", "b"]
    assert literal_codes("Classified(outcome, ErrorCode.EXPIRED, text)") == []


def test_every_code_has_a_reason_and_every_reason_a_label():
    assert all(reason_of(code=code) is code.reason is not Reason.REPORTED for code in ErrorCode)
    assert all(reason_label(reason) == reason.label for reason in Reason)
    assert len({reason.label for reason in Reason}) == len(Reason)


def test_a_code_without_a_reason_fails_at_import():
    with pytest.raises((TypeError, RuntimeError)) as found:  # Python 3.11 wraps the error

        class Incomplete(enum.StrEnum):
            __new__ = ErrorCode._new_member_  # type: ignore[assignment]  # enum's own name for it
            NEW = "new_code"

    assert "reason" in str(found.value.__cause__ or found.value)


@pytest.mark.parametrize("reason", ["", "no_such_reason"])
def test_a_stored_reason_that_is_unknown_has_no_label(reason):
    assert reason_label(reason) == ""
