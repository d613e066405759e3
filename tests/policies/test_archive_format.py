"""The archive's file format: what is written is read, and what is damaged is named and spares the rest."""

import gzip
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reliability.policies import archive_format
from reliability.policies.archive_format import Damaged

LETTERS = [
    {"id": str(n), "payload": json.dumps({"n": n, "text": f"line\n{n} ü"}), "delivery": None, "line": n + 1}
    for n in range(120)
]


def written(letters=LETTERS):
    """Return a file's blocks and bytes, and its manifest."""
    parts = list(archive_format.blocks_of(letters))
    data = b"".join(part for _, part in parts)
    digest = hashlib.sha256(data).hexdigest()
    manifest = archive_format.manifest_of(blocks=[block for block, _ in parts], facts={"id": "x"}, sha256=digest)
    return data, archive_format.read_manifest(manifest)


def read(data: bytes, manifest: dict):
    """Return the lines, and whether each block is whole."""
    lines, whole = [], []
    for block in archive_format.blocks_in(manifest):
        part = data[block.offset : block.offset + block.size]
        lines += archive_format.read_block(block, part)
        whole.append(archive_format.is_whole(block, part))
    return lines, whole


def test_what_is_written_is_read():
    data, manifest = written()
    lines, whole = read(data, manifest)
    assert [line.letter for line in lines] == LETTERS
    assert [line.number for line in lines] == list(range(1, 121))
    assert whole == [True, True, True]
    assert (manifest["letters"], manifest["size"]) == (120, len(data))


def test_it_is_json_lines_for_everybody_else():
    data, _ = written()
    lines = gzip.decompress(data).decode().splitlines()
    assert [json.loads(line)["letter"] for line in lines] == LETTERS


@settings(max_examples=150, deadline=None)
@given(place=some.integers(0), bit=some.integers(0, 7))
def test_a_flipped_bit_is_noticed_and_spares_the_other_blocks(place, bit):
    data, manifest = written()
    damaged = bytearray(data)
    damaged[place % len(data)] ^= 1 << bit
    lines, whole = read(bytes(damaged), manifest)
    assert whole.count(False) == 1
    for line in lines:
        assert line.letter in (None, LETTERS[line.number - 1])  # never another letter than was written
    hit = whole.index(False)
    assert {(line.number - 1) // 50 for line in lines if line.letter is None} <= {hit}


def test_what_comes_before_the_damage_in_its_block_is_still_read():
    data, manifest = written(
        [{"id": str(n), "payload": hashlib.sha256(str(n).encode()).hexdigest() * 20} for n in range(50)]
    )
    cut = data[: len(data) // 2]
    lines, whole = read(cut, manifest)
    good = [line.number for line in lines if line.letter is not None]
    assert whole == [False]
    assert good == list(range(1, len(good) + 1))
    assert 10 < len(good) < 50


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"letters": 120', '"letters": 121'),
        lambda text: text[:-20],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("checksum", "chequesum"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(change):
    parts = list(archive_format.blocks_of(LETTERS))
    text = archive_format.manifest_of(blocks=[block for block, _ in parts], facts={}, sha256="").decode()
    assert archive_format.read_manifest(text.encode())["letters"] == 120
    with pytest.raises(Damaged):
        archive_format.read_manifest(change(text).encode())


def test_a_later_format_is_refused_by_name():
    data = archive_format.manifest_of(blocks=[], facts={}, sha256="")
    document = json.loads(data)
    del document["checksum"]
    document["version"] = 2
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    later = json.dumps({**document, "checksum": hashlib.sha256(text).hexdigest()}).encode()
    with pytest.raises(Damaged, match="format backstop-dead-letters 2"):
        archive_format.read_manifest(later)
