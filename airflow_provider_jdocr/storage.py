"""Object storage as the line needs it, for `s3://`, `file://` and whatever else Airflow has a file system
for.

What is below a prefix stays below it: a `..` in a path is refused, links to folders are not followed, and a
link to a file is read only where it leads to one in its own folder or below. Whoever may put files into an
inbox could otherwise have any file of the worker's machine sent to the service.

Clients and credentials are resolved when a storage is opened, on the main thread; `read` is called from
several threads at once and resolves nothing. Listings are streamed, recursive, in key order, files only.
URIs are the storage's own keys behind scheme and bucket, never encoded: `#`, `?` and `%` in a key are
themselves. What botocore signs its requests with is kept out of its debug log.
"""

import errno
import heapq
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_jdocr.core.errors import ConfigurationError, StorageError
from airflow_provider_jdocr.core.sources import Images, Missing, Source, Storage, split, validate_images
from airflow_provider_jdocr.failures import permanent_errors_end_retries

_Entry = TypeVar("_Entry")
_FOLDER_PAGE = 100_000


def open_storage(images: Images, storage_conn_id: str | None = None) -> Storage:
    """The storage that holds `images`, with `storage_conn_id` for whatever is not `file://`.

    Without a connection id `s3://` uses Airflow's `aws_default`, or boto3's own credentials where that is not
    defined. Raises `ConfigurationError` for a scheme that Airflow has no file system for.
    """
    validate_images(images)
    uris = _uris(images)
    schemes = {uri.partition("://")[0].lower(): uri for uri in uris}
    for uri in uris:
        if "@" in uri.partition("://")[2].partition("/")[0]:
            raise ConfigurationError(
                f"images: {uri.partition('://')[0]}://…@… names a connection inside a URI. "
                "Name it in storage_conn_id: a URI with a connection in it would not identify the image."
            )
        _refuse_detours(uri)
    for name in _LOGGERS_THAT_TELL:
        logging.getLogger(name).addFilter(_UNSIGNED)
    opened = {scheme: _open(scheme, uri, storage_conn_id) for scheme, uri in schemes.items()}
    return next(iter(opened.values())) if len(opened) == 1 else _BySchemeStorage(opened)


def split_prefix(
    prefix: str, *, every: int = 1000, storage_conn_id: str | None = None
) -> list[dict[str, Any]]:
    """Key ranges of `prefix` of about `every` objects each, at most 1024, as values for `.expand(images=…)`.

    The listing is streamed and only its cuts are kept. The ranges cover the prefix without a gap, so an
    object that appears later belongs to one of them. An empty prefix gives an empty list. For use inside a
    task.
    """
    with permanent_errors_end_retries():
        storage = open_storage(prefix, storage_conn_id or None)
        return list(split(storage.list(prefix, None, None), prefix, every))


class _Unsigned(logging.Filter):
    """Takes keys, tokens and signatures out of a line: whoever reads them may read the bucket for a while."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        if (told := _SIGNED_WITH.sub(r"\1***", said)) != said:
            record.msg, record.args = told, None
        return True


_LOGGERS_THAT_TELL = ("botocore.auth", "botocore.endpoint")
_SIGNED_WITH = re.compile(
    r"(credential=|signature=|^signature:\s*|x-amz-security-token(?:=|:|'?: b?'))[^\s,']+", re.IGNORECASE
)
_UNSIGNED = _Unsigned()


class LocalStorage:
    """`file:///folder/…`, by the operating system's own calls. Links to folders are not followed."""

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        folder = prefix[: prefix.rindex("/") + 1]
        if not _is_folder(Path(_local_path(folder))):
            raise ConfigurationError(f"images: {folder} is no folder on this machine. Correct the path.")
        for key, path in _files(_entries, prefix, after, until):
            try:
                found = os.stat(path)  # noqa: PTH116  not a Path for each of a million files
            except FileNotFoundError:  # moved away since its folder was listed
                continue
            yield _local_source(key, found)

    def stat(self, uri: str) -> Source | Missing:
        path = Path(_local_path(uri))
        try:
            if path.is_dir():
                return Missing(uri, "MISSING", "a folder, not a file; give it as a prefix")
            if not path.is_file() and path.exists():
                return Missing(uri, "MISSING", "a pipe or a device, not a file")
            return _local_source(uri, path.stat())
        except OSError as error:
            return Missing(uri, "MISSING", error.strerror or type(error).__name__)

    def read(self, uri: str) -> bytes:
        try:
            return _within_its_folder(uri).read_bytes()
        except OSError as error:
            raise StorageError(
                f"{uri} could not be read: {error.strerror or type(error).__name__}", uri=uri
            ) from error


class FileSystemStorage:
    """Any other scheme, through the file system that Airflow's `ObjectStoragePath` resolves for it."""

    def __init__(self, file_system: Any) -> None:
        self._fs = file_system

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        self._fs.invalidate_cache()  # a listing that was cached hides what was overwritten since
        for key, info in _files(self._entries, prefix, after, until):
            yield _file_system_source(key, info)

    def _path(self, uri: str) -> str:
        # fsspec's own way from a URI to a path; Airflow's path objects cut it at # and ?.
        path: str = self._fs._strip_protocol(uri)  # noqa: SLF001 - fsspec has no public name for it
        return path

    def _entries(self, folder: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
        path = self._path(folder).rstrip("/")
        with self._errors(folder):
            listed = self._fs.ls(path, detail=True)
        entries = []
        for info in listed:
            name = info["name"].rstrip("/")
            if name != path:  # some stores list the folder's own marker among its files
                key = folder + name[len(path) :].lstrip("/")
                entries.append((f"{key}/" if info["type"] == "directory" else key, info))
        return sorted(entries, key=lambda entry: entry[0])

    def stat(self, uri: str) -> Source | Missing:
        self._fs.invalidate_cache()
        try:
            with self._errors(uri):
                info = self._fs.info(self._path(uri))
        except NoSuchKeyError:
            return Missing(uri, "MISSING", "no such object")
        if info["type"] == "directory":
            return Missing(uri, "MISSING", "a folder, not a file; give it as a prefix")
        return _file_system_source(uri, info)

    def read(self, uri: str) -> bytes:
        with self._errors(uri):
            content: bytes = self._fs.cat_file(self._path(uri))
        return content

    @contextmanager
    def _errors(self, uri: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NoSuchKeyError(f"{uri} does not exist", uri=uri) from error
        except Exception as error:  # every store has errors of its own, not all of them an OSError
            raise StorageError(f"{uri} could not be read: {type(error).__name__}", uri=uri) from error


class _BySchemeStorage:
    """Images of several schemes in one list."""

    def __init__(self, opened: Mapping[str, Storage]) -> None:
        self._opened = opened

    def _of(self, uri: str) -> Storage:
        return self._opened[uri.partition("://")[0].lower()]

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        return self._of(prefix).list(prefix, after, until)

    def stat(self, uri: str) -> Source | Missing:
        return self._of(uri).stat(uri)

    def read(self, uri: str) -> bytes:
        return self._of(uri).read(uri)


class NoSuchKeyError(StorageError):
    """The one object is not there; the storage is."""


def _uris(images: Images) -> Sequence[str]:
    if isinstance(images, str):
        return [images]
    return [images["prefix"]] if isinstance(images, Mapping) else images


def _open(scheme: str, uri: str, conn_id: str | None) -> Storage:
    if scheme == "file":
        _local_path(uri)
        return LocalStorage()
    if conn_id is not None:
        _require_connection(conn_id)
    if scheme == "s3":
        from airflow_provider_jdocr.s3 import open_s3

        return open_s3(conn_id)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        return FileSystemStorage(ObjectStoragePath(f"{scheme}://", conn_id=conn_id).fs)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"images: Airflow has no file system for {scheme}:// ({error}). Install the provider that "
            "brings it."
        ) from error


def _require_connection(conn_id: str) -> None:
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"storage_conn_id: there is no connection {conn_id!r} in Airflow. Create it or name another."
        ) from error


def _refuse_detours(uri: str) -> None:
    """In a bucket `..` is a name like any other; a file system makes it lead elsewhere."""
    scheme, _, path = uri.partition("://")
    if scheme.lower() != "s3" and (".." in path.split("/") or "\0" in path):
        raise ConfigurationError(
            f"images: {uri!r} leads through '..' or holds a NUL. Write the path that is meant.",
            field="images",
        )


def _within_its_folder(uri: str) -> Path:
    """The file that a path means. Raises `StorageError` for a link that leads out of its folder."""
    path = Path(_local_path(uri))
    found = path.resolve(strict=True)
    if path.is_symlink() and not found.is_relative_to(path.parent.resolve()):
        raise StorageError(
            f"{uri} is a link that leads out of its folder: put the file itself there", uri=uri
        )
    return found


def _local_path(uri: str) -> str:
    path = uri[len("file://") :]
    if not path.startswith("/"):
        raise ConfigurationError(
            f"images: {uri} has no absolute path. Write file:///folder/… with three slashes."
        )
    return path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a path that is too long, for one
        return False


def _entries(folder: str) -> Iterator[tuple[str, str]]:
    """Key and path of what is in `folder`, in the order of whole keys: a folder counts with its slash.

    A folder tells its names in no order, and a million of them are not to be sorted in memory: it is gone
    through once for each page.
    """
    path, last = _local_path(folder), ""
    while True:
        page = heapq.nsmallest(_FOLDER_PAGE, (name for name in _names(folder) if name > last))
        yield from ((folder + name, path + name) for name in page)
        if len(page) < _FOLDER_PAGE:
            return
        last = page[-1]


def _names(folder: str) -> Iterator[str]:
    try:
        with os.scandir(_local_path(folder)) as entries:
            yield from map(_sorting_name, entries)
    except FileNotFoundError:
        return  # gone since its parent was listed
    except OSError as error:
        raise StorageError(
            f"{folder} could not be listed: {error.strerror or type(error).__name__}", uri=folder
        ) from error


def _sorting_name(entry: os.DirEntry[str]) -> str:
    """Nothing for what is neither file nor folder, a link that leads nowhere or to itself among them."""
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/"
    try:
        return entry.name if entry.is_file() else ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return ""
        raise


def _files(
    entries: Callable[[str], Iterable[tuple[str, _Entry]]], prefix: str, after: str | None, until: str | None
) -> Iterator[tuple[str, _Entry]]:
    """The files of a tree in key order, one folder's entries after another's. Folders may lie deep."""
    open_folders = [iter(entries(prefix[: prefix.rindex("/") + 1]))]
    while open_folders:
        key, entry = next(open_folders[-1], (None, None))
        if key is None or entry is None:
            open_folders.pop()
        elif until is not None and key > until:
            return
        elif key.endswith("/"):
            inside = key.startswith(prefix) or prefix.startswith(key)
            if inside and not _wholly_before(key, after):
                open_folders.append(iter(entries(key)))
        elif key.startswith(prefix) and (after is None or key > after):
            yield key, entry


def _wholly_before(folder: str, after: str | None) -> bool:
    return after is not None and after > folder and not after.startswith(folder)


def _local_source(uri: str, found: os.stat_result) -> Source:
    # The change time tells an overwrite that kept size and modification time.
    return Source(uri, found.st_size, f"{found.st_mtime_ns}-{found.st_ctime_ns}", None, found.st_mtime)


def _file_system_source(uri: str, info: Mapping[str, Any]) -> Source:
    etag = next((info[name] for name in ("ETag", "etag", "md5Hash", "content_md5") if info.get(name)), None)
    version = info.get("generation") or info.get("version_id")
    modified: Any = next(
        (info[name] for name in ("mtime", "last_modified", "updated", "created") if info.get(name)), None
    )
    if hasattr(modified, "timestamp"):
        modified = modified.timestamp()
    return Source(
        uri,
        info.get("size"),
        str(etag).strip('"') if etag else None,
        str(version) if version else None,
        float(modified) if isinstance(modified, int | float) else None,
    )
