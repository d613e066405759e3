"""The files of the archive in Django's storage: writing with fsync, reading back, listing, removing."""

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
# A file is assembled in memory up to this size, and in an unnamed temporary file beyond it.
SPOOL_BYTES = 8 * 1024 * 1024
# The manifest of 20,000 dead letters has less than 2 MB. The limit bounds what a wrong or hostile file can load.
MANIFEST_LIMIT = 8 * 1024 * 1024


class StorageFailed(BackstopError):
    """The archive's storage failed."""

    code = "archive_storage"


def line_limit() -> int:
    """Return the longest line in bytes: a payload with every character escaped, and 1 MiB for the other fields."""
    return max(archive_format.LINE_LIMIT, 2 * settings.MAX_BODY_BYTES + 1024 * 1024)


def storage() -> Storage:
    return storages["archive"]


def write(*, name: str, letters: Iterable[Mapping[str, Any]], facts: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Write both files, read them back, and return the manifest. `facts` is called once all dead letters are written.

    Raises `StorageFailed`; files may exist then.
    """
    with SpooledTemporaryFile(max_size=SPOOL_BYTES) as made:
        try:
            blocks, digest = _write_blocks(made, letters)
            made.seek(0)
            manifest = archive_format.manifest_of(blocks=blocks, facts=facts(), sha256=digest)
            _save(name + DATA, File(made))
            _save(name + MANIFEST, ContentFile(manifest))
            return _read_back(name)
        except StorageFailed:
            raise
        except Exception as error:  # each storage backend has exceptions of its own
            raise StorageFailed(f"The archive could not be written: {_describe(error)}") from error


def _write_blocks(file: IO[bytes], letters: Iterable[Mapping[str, Any]]) -> tuple[list[Block], str]:
    digest, blocks = hashlib.sha256(), []
    for block, data in archive_format.blocks_of(letters):
        file.write(data)
        digest.update(data)
        blocks.append(block)
    return blocks, digest.hexdigest()


def _save(name: str, content: "File[bytes]") -> None:
    # Django stores under another name if the name is taken. That name would not be found again.
    given = storage().save(name, content)
    if given != name:
        with suppress(Exception):
            storage().delete(given)
        raise StorageFailed(f"The storage has a file {name} already.")
    with suppress(NotImplementedError):  # remote storages have no path, and confirm a write themselves
        path = Path(storage().path(name))
        for one in (path, *list(path.parents)[: name.count("/") + 1]):
            _fsync(one)


def _fsync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to the disk.

    Without this, a power failure could lose the file after the transaction that erased the payloads has committed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_back(name: str) -> dict[str, Any]:
    """Return the manifest as the storage returns it, after checking every block: the payloads are erased next."""
    try:
        manifest = read_manifest(name=name)
        whole = all(archive_format.is_whole(block, data) for block, data in read(name=name, manifest=manifest))
    except Damaged as error:
        raise StorageFailed(f"What the storage gives back is not what was written: {error}.") from None
    if not whole or storage().size(name + DATA) != manifest["size"]:
        raise StorageFailed("What the storage gives back is not what was written.")
    return manifest


def read_manifest(*, name: str) -> dict[str, Any]:
    """Return a manifest. Raises `Damaged`, and `StorageFailed` if it cannot be read."""
    try:
        with storage().open(name + MANIFEST, "rb") as file:
            data = file.read(MANIFEST_LIMIT + 1)
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{MANIFEST} cannot be read: {_describe(error)}") from error
    try:
        if len(data) > MANIFEST_LIMIT:
            raise Damaged(f"it is larger than {MANIFEST_LIMIT:,} bytes")
        return archive_format.read_manifest(data)
    except Damaged as error:
        raise Damaged(f"{name}{MANIFEST}: {error}") from None


def read(*, name: str, manifest: Mapping[str, Any]) -> Iterator[tuple[Block, bytes]]:
    """Yield each block of the manifest with its bytes. Raises `StorageFailed` if the file cannot be read."""
    try:
        with storage().open(name + DATA, "rb") as file:
            left = storage().size(name + DATA)
            for block in archive_format.blocks_in(manifest):
                data = file.read(max(0, min(block.size, left)))  # a damaged manifest may name any size
                left -= len(data)
                yield block, data
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{DATA} cannot be read: {_describe(error)}") from error


def size_difference(*, name: str, manifest: Mapping[str, Any]) -> int:
    """Return the file's size minus the size in its manifest, in bytes."""
    try:
        return int(storage().size(name + DATA)) - int(manifest["size"])
    except Exception as error:  # as above
        raise StorageFailed(f"{name}{DATA} cannot be read: {_describe(error)}") from error


def remove(*, name: str) -> None:
    """Remove both files, if they exist. Raises `StorageFailed`.

    The manifest goes first: data without a manifest is recognised as incomplete, never as an archive.
    """
    for ending in (MANIFEST, DATA):
        try:
            storage().delete(name + ending)
        except FileNotFoundError:
            continue
        except Exception as error:  # as above
            raise StorageFailed(f"{name}{ending} could not be removed: {_describe(error)}") from error


def names() -> set[str]:
    """Return the names of all archives with a file in the storage. Raises `StorageFailed`."""
    try:
        return {
            path.removesuffix(ending) for path in _files(FOLDER) for ending in (DATA, MANIFEST) if path.endswith(ending)
        }
    except FileNotFoundError:
        return set()
    except Exception as error:  # as above
        raise StorageFailed(f"The archive's storage cannot be listed: {_describe(error)}") from error


def _files(folder: str) -> Iterator[str]:
    folders, files = storage().listdir(folder)
    yield from (f"{folder}/{one}" for one in files)
    for one in folders:
        yield from _files(f"{folder}/{one}")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"{os.strerror(error.errno)}."
    return f"{type(error).__name__}: {error}"[:300]
