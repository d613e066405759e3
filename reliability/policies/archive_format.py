"""The archive's file format: JSON Lines in gzip members, and a manifest. Bytes in, bytes out.

A line is `{"sha256": "…", "letter": {…}}`: the digest is that of the bytes between `"letter":` and the last brace, and
the letter's `line` is its number, so that a line is known for what it is whatever is left around it. Some lines
together make a block, a gzip member of its own, so that what is damaged in one spares the others; `zcat` reads the file
as one. The manifest names each block's place and digest, and carries a digest of itself.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

FORMAT, VERSION = "backstop-dead-letters", 1
BLOCK_LINES = 50
HEAD, MIDDLE = b'{"sha256":"', b'","letter":'
DIGEST = 64


class Damaged(Exception):
    """What was read is not what was written."""


@dataclass(frozen=True, slots=True)
class Block:
    """A gzip member: its place in the file (bytes), its digest, and its lines (numbers from 1)."""

    offset: int
    size: int
    sha256: str
    first_line: int
    lines: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line as read: its letter, or `None` where it is damaged."""

    number: int
    letter: Mapping[str, Any] | None


def line_of(number: int, letter: Mapping[str, Any]) -> bytes:
    text = _json({**letter, "line": number})
    return HEAD + _digest(text).encode() + MIDDLE + text + b"}\n"


def read_line(raw: bytes) -> Mapping[str, Any]:
    """Return a line's letter. Raises `Damaged`."""
    begin = len(HEAD) + DIGEST
    text = raw[begin + len(MIDDLE) : -1]
    framed = raw.startswith(HEAD) and raw[begin : begin + len(MIDDLE)] == MIDDLE and raw.endswith(b"}")
    if not framed or _digest(text).encode() != raw[len(HEAD) : begin]:
        raise Damaged("its checksum does not fit")
    letter: dict[str, Any] = json.loads(text)
    return letter


def blocks_of(letters: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Block, bytes]]:
    """Yield the file, block by block."""
    coming, offset, line = enumerate(letters, start=1), 0, 1
    while lines := [line_of(number, one) for number, one in islice(coming, BLOCK_LINES)]:
        data = gzip.compress(b"".join(lines), compresslevel=6, mtime=0)
        yield Block(offset, len(data), _digest(data), line, len(lines)), data
        offset, line = offset + len(data), line + len(lines)


def read_block(block: Block, data: bytes) -> list[Line]:
    """Return each line of a block, whole or not, as far as its bytes still tell."""
    found = {}
    for raw in _unpack(data).split(b"\n"):
        with suppress(Damaged):
            letter = read_line(raw)
            found[letter["line"]] = letter
    return [Line(number, found.get(number)) for number in range(block.first_line, block.first_line + block.lines)]


def is_whole(block: Block, data: bytes) -> bool:
    return len(data) == block.size and _digest(data) == block.sha256


def _unpack(data: bytes) -> bytes:
    """Decompress as far as that goes: byte by byte where it breaks off, so that nothing before it is lost."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        pass
    machine, found = zlib.decompressobj(wbits=31), bytearray()
    try:
        for place in range(len(data)):
            found += machine.decompress(data[place : place + 1])
    except zlib.error:
        pass
    return bytes(found)


def manifest_of(*, blocks: list[Block], facts: Mapping[str, Any], sha256: str) -> bytes:
    """Return the manifest file. `sha256` is the data file's; `facts` come beside what the format itself says."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        **facts,
        "letters": sum(one.lines for one in blocks),
        "size": sum(one.size for one in blocks),
        "sha256": sha256,
        "blocks": [[one.offset, one.size, one.sha256, one.first_line, one.lines] for one in blocks],
    }
    return json.dumps({**document, "checksum": _digest(_json(document))}, indent=1, ensure_ascii=False).encode() + b"\n"


def read_manifest(data: bytes) -> dict[str, Any]:
    """Return what a manifest says. Raises `Damaged`, also for a format that this version cannot read."""
    try:
        document = json.loads(data)
        given = document.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise Damaged("it is no manifest, or cannot be read") from None
    if given != _digest(_json(document)):
        raise Damaged("its checksum does not fit")
    if (document["format"], document["version"]) != (FORMAT, VERSION):
        raise Damaged(f"it is of format {document['format']} {document['version']}, not {FORMAT} {VERSION}")
    return dict(document)


def blocks_in(manifest: Mapping[str, Any]) -> list[Block]:
    return [Block(*one) for one in manifest["blocks"]]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
