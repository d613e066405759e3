"""The archive's file format: JSON Lines in gzip members, and a manifest. Bytes in, bytes out.

A line is `{"sha256": "…", "letter": {…}}`. The digest is of the bytes between `"letter":` and the last brace, and the
letter's `line` is its number, so that a line can be identified whatever is left around it. Lines are grouped in blocks,
each a gzip member of its own, so that damage in one block spares the others; `zcat` reads the file as one. The manifest
has each block's offset and digest, and a digest of itself.
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
BLOCK_LINES_LIMIT = 10_000
BLOCK_BYTES = 8 * 1024 * 1024
# Bytes. A longer line was not written by Backstop, unless MAX_BODY_BYTES was larger then.
LINE_LIMIT = 64 * 1024 * 1024
# Bytes of compressed data that are unpacked at once. At deflate's highest ratio (about 1000:1) that is four megabytes,
# so that a crafted file cannot fill the memory.
STEP = 4096
HEAD, MIDDLE = b'{"sha256":"', b'","letter":'
DIGEST = 64


class Damaged(Exception):
    """The data is damaged: its checksum or its structure is wrong."""


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
    """A line as read: its letter, or `None` and the problem if it is damaged."""

    number: int
    letter: Mapping[str, Any] | None
    problem: str = "its checksum does not match"


def line_of(number: int, letter: Mapping[str, Any]) -> bytes:
    text = _json({**letter, "line": number})
    return HEAD + _digest(text).encode() + MIDDLE + text + b"}\n"


def read_line(raw: bytes) -> Mapping[str, Any]:
    """Return a line's letter. Raises `Damaged`."""
    begin = len(HEAD) + DIGEST
    text = raw[begin + len(MIDDLE) : -1]
    framed = raw.startswith(HEAD) and raw[begin : begin + len(MIDDLE)] == MIDDLE and raw.endswith(b"}")
    if not framed or _digest(text).encode() != raw[len(HEAD) : begin]:
        raise Damaged("its checksum does not match")
    letter: dict[str, Any] = json.loads(text)
    return letter


def blocks_of(letters: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Block, bytes]]:
    """Yield the file block by block: `BLOCK_LINES` lines each, or fewer where they reach `BLOCK_BYTES`."""
    coming, offset, line = enumerate(letters, start=1), 0, 1
    while lines := _next_lines(coming):
        data = gzip.compress(b"".join(lines), compresslevel=6, mtime=0)
        yield Block(offset, len(data), _digest(data), line, len(lines)), data
        offset, line = offset + len(data), line + len(lines)


def _next_lines(coming: Iterator[tuple[int, Mapping[str, Any]]]) -> list[bytes]:
    lines, size = [], 0
    for number, one in islice(coming, BLOCK_LINES):
        lines.append(line_of(number, one))
        size += len(lines[-1])
        if size >= BLOCK_BYTES:
            break
    return lines


def read_block(block: Block, data: bytes, *, line_limit: int = LINE_LIMIT) -> Iterator[Line]:
    """Yield each line of a block in order, damaged ones included.

    Only one line is in memory at a time, and never more than `line_limit` bytes of it.
    """
    coming, end = block.first_line, block.first_line + block.lines
    for raw in _lines(_unpacked(data, line_limit * (block.lines + 1)), line_limit):
        if raw is None and coming < end:
            yield Line(coming, None, f"it is larger than {line_limit:,} bytes, which MAX_BODY_BYTES leads to")
            coming += 1
            continue
        with suppress(Damaged):
            letter = read_line(raw or b"")
            number = letter["line"]
            if coming <= number < end:
                yield from (Line(one, None) for one in range(coming, number))
                yield Line(number, letter)
                coming = number + 1
    yield from (Line(one, None) for one in range(coming, end))


def is_whole(block: Block, data: bytes) -> bool:
    return len(data) == block.size and _digest(data) == block.sha256


def _lines(pieces: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """Yield the lines within pieces of text; `None` in the place of one that is longer than `limit`."""
    kept, is_over = bytearray(), False
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for part in ends:
            is_over = is_over or len(kept) + len(part) > limit
            yield None if is_over else bytes(kept + part)
            kept.clear()
            is_over = False
        is_over = is_over or len(kept) + len(rest) > limit
        if is_over:
            kept.clear()
        else:
            kept += rest
    if kept or is_over:
        yield None if is_over else bytes(kept)


def _unpacked(data: bytes, limit: int) -> Iterator[bytes]:
    """Unpack a gzip member in pieces of a few megabytes at most, up to about `limit` bytes in all."""
    # `spare` is the state before each piece: a damaged piece is unpacked again byte by byte, so that nothing before the
    # damage is lost.
    machine, size = zlib.decompressobj(wbits=31), 0
    for place in range(0, len(data), STEP):
        if machine.eof or size > limit:
            return
        part, spare = data[place : place + STEP], machine.copy()
        try:
            piece = machine.decompress(part)
        except zlib.error:
            yield from _bytewise(spare, part)
            return
        size += len(piece)
        yield piece


def _bytewise(machine: Any, part: bytes) -> Iterator[bytes]:
    with suppress(zlib.error):
        for place in range(len(part)):
            yield machine.decompress(part[place : place + 1])


def manifest_of(*, blocks: list[Block], facts: Mapping[str, Any], sha256: str) -> bytes:
    """Return the manifest file. `sha256` is the data file's; `facts` are added to the format's own members."""
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
    """Read a manifest. Raises `Damaged`, also for a format or version that cannot be read."""
    try:
        document = json.loads(data)
        given = document.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise Damaged("it is not a manifest, or cannot be read") from None
    if given != _digest(_json(document)):
        raise Damaged("its checksum does not match")
    if (document["format"], document["version"]) != (FORMAT, VERSION):
        raise Damaged(f"it is of format {document['format']} {document['version']}, not {FORMAT} {VERSION}")
    if not all(map(_is_valid_block, blocks_in(document))):
        raise Damaged("it has an invalid block")
    return dict(document)


def _is_valid_block(block: Block) -> bool:
    return min(block.offset, block.size) >= 0 and block.first_line >= 1 and 0 <= block.lines <= BLOCK_LINES_LIMIT


def blocks_in(manifest: Mapping[str, Any]) -> list[Block]:
    return [Block(*one) for one in manifest["blocks"]]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
