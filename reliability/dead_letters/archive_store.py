"""The archive's files in Django's storage: written, flushed to the disk, read back, removed."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages

from reliability.errors import BackstopError
from reliability.formats import archive_format
from reliability.formats.archive_format import Block, Damaged

DATA, MANIFEST = ".jsonl.gz", ".manifest.json"
FOLDER = "dead-letters"
# Up to so many bytes a file is put together in memory, beyond that in an unnamed temporary file.
IN_MEMORY = 8 * 1024 * 1024
# One of 20,000 letters has less than two.
MANIFEST_LIMIT = 8 * 1024 * 1024


class StorageFailed(BackstopError):
    """The archive's storage did not do what it was asked for."""

    code = "archive_storage"


def line_limit() -> int:
    """Return how many bytes a line may have: a payload, each character of which is escaped, and the rest."""
    return max(archive_format.LINE_LIMIT, 2 * settings.MAX_BODY_BYTES + 1024 * 1024)


def storage() -> Storage:
    return storages["archive"]


def write(*, name: str, letters: Iterable[Mapping[str, Any]], facts: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Write both files, read them back, and return the manifest; `facts` are asked for once all letters are written.

    Raises `StorageFailed`; files may then be there.
    """
    with SpooledTemporaryFile(max_size=IN_MEMORY) as made:
        try:
            blocks, digest = _fill(made, letters)
            made.seek(0)
            manifest = archive_format.manifest_of(blocks=blocks, facts=facts(), sha256=digest)
            _save(name + DATA, File(made))
            _save(name + MANIFEST, ContentFile(manifest))
            return _read_back(name)
        except StorageFailed:
            raise
        except Exception as error:  # a storage raises what its library raises
            raise StorageFailed(f"The archive could not be written: {_said(error)}") from error


def _fill(file: IO[bytes], letters: Iterable[Mapping[str, Any]]) -> tuple[list[Block], str]:
    digest, blocks = hashlib.sha256(), []
    for block, data in archive_format.blocks_of(letters):
        file.write(data)
        digest.update(data)
        blocks.append(block)
    return blocks, digest.hexdigest()


def _save(name: str, content: "File[bytes]") -> None:
    given = storage().save(name, content)
    if given != name:
        with suppress(Exception):
            storage().delete(given)
        raise StorageFailed(f"The storage has a file {name} already.")
    with suppress(NotImplementedError):  # a storage that is no folder keeps what it has said it keeps
        path = Path(storage().path(name))
        for one in (path, *list(path.parents)[: name.count("/") + 1]):
            _flush(one)


def _flush(path: Path) -> None:
    """Have the disk hold it before the rows leave: a file's bytes, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_back(name: str) -> dict[str, Any]:
    try:
        manifest = read_manifest(name=name)
        whole = all(archive_format.is_whole(block, data) for block, data in read(name=name, manifest=manifest))
    except Damaged as error:
        raise StorageFailed(f"What the storage gives back is not what was written: {error}.") from None
    if not whole or storage().size(name + DATA) != manifest["size"]:
        raise StorageFailed("What the storage gives back is not what was written.")
    return manifest


def read_manifest(*, name: str) -> dict[str, Any]:
    """Return a manifest. Raises `Damaged`, and `StorageFailed` where it cannot be read."""
    try:
        with storage().open(name + MANIFEST, "rb") as file:
            data = file.read(MANIFEST_LIMIT + 1)
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{MANIFEST} cannot be read: {_said(error)}") from error
    try:
        if len(data) > MANIFEST_LIMIT:
            raise Damaged(f"it is larger than {MANIFEST_LIMIT:,} bytes")
        return archive_format.read_manifest(data)
    except Damaged as error:
        raise Damaged(f"{name}{MANIFEST}: {error}") from None


def read(*, name: str, manifest: Mapping[str, Any]) -> Iterator[tuple[Block, bytes]]:
    """Yield each block with the bytes in its place. Raises `StorageFailed` where the file cannot be read."""
    try:
        with storage().open(name + DATA, "rb") as file:
            left = storage().size(name + DATA)
            for block in archive_format.blocks_in(manifest):
                data = file.read(max(0, min(block.size, left)))  # a manifest may say anything
                left -= len(data)
                yield block, data
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{DATA} cannot be read: {_said(error)}") from error


def surplus(*, name: str, manifest: Mapping[str, Any]) -> int:
    """Return how many bytes the file has beyond what its manifest says; less than 0: it is too short."""
    try:
        return int(storage().size(name + DATA)) - int(manifest["size"])
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{DATA} cannot be read: {_said(error)}") from error


def remove(*, name: str) -> None:
    """Remove both files, the manifest first, as far as they are there. Raises `StorageFailed`."""
    for ending in (MANIFEST, DATA):
        try:
            storage().delete(name + ending)
        except FileNotFoundError:
            continue
        except Exception as error:  # as above
            raise StorageFailed(f"{name}{ending} could not be removed: {_said(error)}") from error


def names() -> set[str]:
    """Return the names of all archives of which the storage has a file. Raises `StorageFailed`."""
    try:
        return {
            path.removesuffix(ending) for path in _files(FOLDER) for ending in (DATA, MANIFEST) if path.endswith(ending)
        }
    except FileNotFoundError:
        return set()
    except Exception as error:  # as above
        raise StorageFailed(f"The archive's storage cannot be listed: {_said(error)}") from error


def _files(folder: str) -> Iterator[str]:
    folders, files = storage().listdir(folder)
    yield from (f"{folder}/{one}" for one in files)
    for one in folders:
        yield from _files(f"{folder}/{one}")


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"{os.strerror(error.errno)}."
    return f"{type(error).__name__}: {error}"[:300]
