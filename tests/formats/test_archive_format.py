"""The archive's file format: what is written is read, and what is damaged is named and spares the rest."""

import gzip
import hashlib
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from reliability.formats import archive_format
from reliability.formats.archive_format import Damaged

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


def test_a_bomb_is_refused_line_by_line_and_in_little_memory():
    """300 MB of one line, or of many, from 300 KB."""
    for inner in (b"0" * 300_000_000, (b"0" * 999 + b"\n") * 300_000):
        data = gzip.compress(inner, compresslevel=1)
        del inner
        block = archive_format.Block(0, len(data), "", 1, 3)
        tracemalloc.start()
        lines = list(archive_format.read_block(block, data, line_limit=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [(line.number, line.letter) for line in lines] == [(1, None), (2, None), (3, None)]
        assert peak < 20_000_000


def test_a_line_that_is_too_long_says_so_and_spares_the_others():
    letters = [{**LETTERS[0], "payload": "x" * n} for n in (10, 5000, 10)]
    ((block, data),) = archive_format.blocks_of(letters)
    lines = list(archive_format.read_block(block, data, line_limit=1000))
    assert [line.letter is None for line in lines] == [False, True, False]
    assert "larger than 1,000 bytes" in lines[1].problem


def test_large_letters_make_small_blocks():
    letters = [{"id": str(n), "payload": "x" * 5_000_000} for n in range(5)]
    data, manifest = written(letters)
    blocks = archive_format.blocks_in(manifest)
    assert [one.lines for one in blocks] == [2, 2, 1]
    lines, whole = read(data, manifest)
    assert [line.letter["id"] for line in lines] == list("01234")
    assert all(whole)


def test_a_manifest_that_asks_for_too_much_is_refused():
    for block in ((0, 10, "", 1, 10**12), (0, -1, "", 1, 1), (0, 10, "", 0, 1)):
        text = archive_format.manifest_of(blocks=[archive_format.Block(*block)], facts={}, sha256="")
        with pytest.raises(Damaged, match="block"):
            archive_format.read_manifest(text)
