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
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, ObjectStoragePath
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from botocore.utils import parse_timestamp

from airflow_provider_jdocr.core.errors import ConfigurationError, StorageError
from airflow_provider_jdocr.core.sources import Images, Missing, Source, Storage, split, validate_images
from airflow_provider_jdocr.failures import permanent_errors_end_retries

_Entry = TypeVar("_Entry")
_FOLDER_PAGE = 100_000

# What a picture is worth waiting for: the defaults of botocore wait up to five minutes for a dead endpoint.
_S3_DEFAULTS = Config(
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=32,
    retries={"mode": "standard", "max_attempts": 4},
)
_S3_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "that is no bucket name",
    "AccessDenied": "the credentials may not do this",
    "403": "the credentials may not do this",
    "InvalidAccessKeyId": "the access key is unknown there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "PermanentRedirect": "the bucket lives in another region",
}


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


class S3Storage:
    """`s3://bucket/…` through one boto3 client, which all threads share."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        bucket, key_prefix = _bucket_and_key(prefix)
        more: dict[str, str] = {"StartAfter": _bucket_and_key(after)[1]} if after else {}
        while True:
            with _s3_errors(prefix, self._client):
                page = self._client.list_objects_v2(Bucket=bucket, Prefix=key_prefix, **more)
                found = [(f"s3://{bucket}/{one['Key']}", one) for one in page.get("Contents", ())]
                next_page = (
                    {"ContinuationToken": page["NextContinuationToken"]} if page.get("IsTruncated") else {}
                )
            for uri, one in found:
                if until is not None and uri > until:
                    return
                if not uri.endswith("/"):
                    yield _s3_source(uri, one.get("Size"), one)
            if not next_page:
                return
            if next_page == more:
                raise StorageError(f"{prefix}: S3 answers with the same page again and again", uri=prefix)
            more = next_page

    def stat(self, uri: str) -> Source | Missing:
        bucket, key = _bucket_and_key(uri)
        try:
            with _s3_errors(uri, self._client):
                found = self._client.head_object(Bucket=bucket, Key=key)
        except _NoSuchKeyError:
            with _s3_errors(uri, self._client):
                self._require_bucket(bucket)
            return Missing(uri, "MISSING", "no such object in the bucket")
        return _s3_source(uri, found.get("ContentLength"), found)

    def read(self, uri: str) -> bytes:
        bucket, key = _bucket_and_key(uri)
        with _s3_errors(uri, self._client):
            body: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _require_bucket(self, bucket: str) -> None:
        """A HEAD answers 404 for a missing object and for a missing bucket alike: tell them apart."""
        try:
            self._client.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _s3_code(error) == "404":
                raise ConfigurationError(
                    _s3_refusal(f"s3://{bucket}/", _S3_REFUSALS["NoSuchBucket"])
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
        except _NoSuchKeyError:
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
            raise _NoSuchKeyError(f"{uri} does not exist", uri=uri) from error
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


class _NoSuchKeyError(StorageError):
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
        hook = _S3Hook() if conn_id is None else _S3Hook(aws_conn_id=conn_id)
        # The connection's own config_kwargs win over these defaults.
        return S3Storage(hook.get_client_type(config=_S3_DEFAULTS.merge(hook.config)))
    try:
        return FileSystemStorage(ObjectStoragePath(f"{scheme}://", conn_id=conn_id).fs)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"images: Airflow has no file system for {scheme}:// ({error}). Install the provider that "
            "brings it."
        ) from error


class _S3Hook(S3Hook):
    """Reads the times of a listing as what they are; trying out every way to write a time takes botocore half
    of the whole listing.
    """

    def get_session(self, *args: Any, **kwargs: Any) -> Any:
        session = super().get_session(*args, **kwargs)
        # boto3 has no public name for it.
        factory = session._session.get_component("response_parser_factory")  # noqa: SLF001
        factory.set_parser_defaults(timestamp_parser=moment_of)
        return session


def moment_of(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return cast(datetime, parse_timestamp(value))
    return moment if moment.tzinfo else cast(datetime, parse_timestamp(value))


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


def _bucket_and_key(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket:
        raise ConfigurationError(f"images: {uri} names no bucket. Write s3://bucket/folder/…")
    return bucket, key


def _s3_source(uri: str, size: int | None, found: Mapping[str, Any]) -> Source:
    version, modified = found.get("VersionId"), found.get("LastModified")
    return Source(
        uri,
        size,
        found.get("ETag", "").strip('"') or None,
        None if version in (None, "null") else version,
        modified.timestamp() if modified else None,
    )


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


@contextmanager
def _s3_errors(uri: str, client: Any) -> Iterator[None]:
    """Botocore's errors in our terms: what only a person can put right is a configuration error."""
    try:
        yield
    except ConfigurationError:
        raise
    except ClientError as error:
        code = _s3_code(error)
        if code in ("404", "NoSuchKey"):
            raise _NoSuchKeyError(f"{uri} does not exist", uri=uri) from error
        if code in _S3_REFUSALS:
            raise ConfigurationError(_s3_refusal(uri, _S3_REFUSALS[code])) from error
        raise StorageError(f"{uri}: S3 answered {code}", uri=uri) from error
    except (NoCredentialsError, ParamValidationError) as error:
        raise ConfigurationError(_s3_refusal(uri, str(error))) from error
    except BotoCoreError as error:
        raise StorageError(
            f"{uri}: {type(error).__name__} while talking to S3{_at(client)}. Check endpoint_url of the "
            "connection in storage_conn_id, the network and the proxy.",
            uri=uri,
        ) from error
    except Exception as error:  # what botocore makes of an answer that is not S3's
        raise StorageError(
            f"{uri}: S3's answer{_at(client)} makes no sense ({type(error).__name__})", uri=uri
        ) from error


def _at(client: Any) -> str:
    """Where the client asks, without a user and password that somebody wrote into the address."""
    url = urlsplit(str(getattr(getattr(client, "meta", None), "endpoint_url", "")))
    return f" at {url.scheme}://{url.netloc.rpartition('@')[2]}" if url.netloc else ""


def _s3_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _s3_refusal(uri: str, why: str) -> str:
    return f"images: {uri}: {why}. Correct the URI or the connection in storage_conn_id; nothing was sent."
