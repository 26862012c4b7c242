"""Every storage keeps the same promises, whatever is behind it."""

import logging
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk.io import attach
from botocore.utils import parse_timestamp
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # has no types

from airflow_provider_jdocr import storage as storage_module
from airflow_provider_jdocr.core.errors import ConfigurationError, StorageError
from airflow_provider_jdocr.core.sources import Missing, Source, Storage, select
from airflow_provider_jdocr.s3 import S3Storage, moment_of
from airflow_provider_jdocr.storage import FileSystemStorage, LocalStorage, open_storage, split_prefix
from tests.shell.conftest import Connect

# Folders and files whose order by name is not their order by key, and names that a URL would cut.
KEYS = ("a.png", "a/1.png", "a/2.png", "a/b/c#d?e.png", "a0.png", "b 1%20.png", "z/发票.png", "zz.png")

WRITTEN = datetime(2026, 5, 1, tzinfo=UTC)

Put = Callable[[str, bytes], None]


@pytest.fixture(params=["file", "s3", "memory"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, Put]]:
    """A prefix, and how to put a file below it."""
    yield from request.getfixturevalue(f"{request.param}_place")


@pytest.fixture
def file_place(tmp_path: Path) -> list[tuple[str, Put]]:
    def put(key: str, content: bytes) -> None:
        path = tmp_path / "scans" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    (tmp_path / "scans").mkdir()
    return [(f"file://{tmp_path}/scans/", put)]


@pytest.fixture
def s3_place(s3: Any) -> list[tuple[str, Put]]:
    def put(key: str, content: bytes) -> None:
        s3.put_object(Bucket="scans", Key=f"in/{key}", Body=content)

    return [("s3://scans/in/", put)]


@pytest.fixture
def memory_place() -> list[tuple[str, Put]]:
    """A file system of fsspec, attached to Airflow's object storage as a provider would do."""
    file_system = MemoryFileSystem()
    file_system.store.clear()
    file_system.makedirs("/scans/in", exist_ok=True)
    attach("memory", fs=file_system)
    return [("memory://scans/in/", lambda key, content: file_system.pipe_file(f"/scans/in/{key}", content))]


def filled(place: tuple[str, Put]) -> tuple[str, Storage]:
    prefix, put = place
    for key in KEYS:
        put(key, key.encode())
    return prefix, open_storage(prefix)


def test_a_listing_is_recursive_and_in_key_order(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    assert [source.uri for source in storage.list(prefix, None, None)] == [
        prefix + key for key in sorted(KEYS)
    ]


@pytest.mark.parametrize("page", [1, 2, 3, 7, len(KEYS)])
def test_a_folder_is_listed_in_key_order_a_page_at_a_time(
    page: int, file_place: list[tuple[str, Put]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_FOLDER_PAGE", page)
    prefix, storage = filled(file_place[0])
    found = [source.uri for source in storage.list(prefix, None, None)]
    assert found == [prefix + key for key in sorted(KEYS)]


class Bucket:
    """S3's listing of a bucket with any number of objects, none of which is anywhere."""

    def __init__(self, keys: int) -> None:
        self.keys, self.pages = keys, 0

    def list_objects_v2(self, *, ContinuationToken: str = "0", **_: str) -> dict[str, Any]:  # noqa: N803 - S3's
        self.pages += 1
        first, last = int(ContinuationToken), min(self.keys, int(ContinuationToken) + 1000)
        found = [
            {"Key": f"in/{n:08}.jpg", "Size": 300_000, "ETag": f'"{n:032x}"', "LastModified": WRITTEN}
            for n in range(first, last)
        ]
        more = {"NextContinuationToken": str(last)} if last < self.keys else {}
        return {"Contents": found, "IsTruncated": bool(more), **more}


def test_a_listing_is_streamed_page_by_page_and_nothing_of_it_is_kept() -> None:
    bucket = Bucket(40_000)
    listed = select("s3://scans/in/", S3Storage(bucket), ["*.tmp"])
    next(listed)
    assert bucket.pages == 1, "the first image need not wait for the last page"
    tracemalloc.start()
    count = 1 + sum(1 for _ in listed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (count, bucket.pages) == (40_000, 40)
    assert peak < 1.5e6, "a page has half as much, all names have more"


def test_a_prefix_need_not_end_at_a_folder(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    found = [source.uri for source in storage.list(f"{prefix}a/", None, None)]
    assert found == [f"{prefix}{key}" for key in ("a/1.png", "a/2.png", "a/b/c#d?e.png")]
    found = [source.uri for source in storage.list(f"{prefix}a", None, None)]
    assert found == [f"{prefix}{key}" for key in ("a.png", "a/1.png", "a/2.png", "a/b/c#d?e.png", "a0.png")]


def test_a_key_range_leaves_out_its_start_and_holds_its_end(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    for after, until in product((None, *KEYS, "a/b", "zzz"), (None, *KEYS, "a/b")):
        edges = [None if edge is None else prefix + edge for edge in (after, until)]
        wanted = [
            key for key in sorted(KEYS) if (after is None or key > after) and (until is None or key <= until)
        ]
        assert [source.uri for source in storage.list(prefix, *edges)] == [prefix + key for key in wanted]


def test_what_was_listed_can_be_read_under_its_uri(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    for source in storage.list(prefix, None, None):
        assert storage.read(source.uri).decode() == source.uri.removeprefix(prefix)
        assert source.size == len(storage.read(source.uri))


def test_stat_says_what_the_listing_says(place: tuple[str, Put]) -> None:
    """Or the ledger would take the same file for another."""
    prefix, storage = filled(place)
    for source in storage.list(prefix, None, None):
        assert storage.stat(source.uri) == source


def test_an_overwrite_shows_in_the_listing(place: tuple[str, Put]) -> None:
    prefix, put = place
    put("a.png", b"old!")
    storage = open_storage(prefix)
    (before,) = storage.list(prefix, None, None)
    put("a.png", b"new!")
    (now,) = storage.list(prefix, None, None)
    assert now != before
    assert storage.stat(now.uri) == now


@pytest.mark.parametrize("scheme", ["file", "memory"])
@pytest.mark.parametrize("path", ["/in/../../etc/passwd", "/in/..", "/../in/a.png", "/in/a\0.png"])
def test_a_path_that_leads_elsewhere_is_refused(scheme: str, path: str) -> None:
    """As a prefix, as a glob, as one of a list: a template may have been filled in by somebody."""
    for images in (f"{scheme}://{path}", f"{scheme}://{path}/*.png", [f"{scheme}://{path}"]):
        with pytest.raises(ConfigurationError, match=r"leads through|is no text"):
            open_storage(images)


def test_in_a_bucket_two_dots_are_a_name(s3: Any) -> None:
    s3.put_object(Bucket="scans", Key="in/../a.png", Body=b"a")
    assert open_storage("s3://scans/in/../").read("s3://scans/in/../a.png") == b"a"


def test_a_link_is_read_only_where_it_stays_in_its_folder(tmp_path: Path) -> None:
    """Or whoever may write to the inbox could have any file of the worker's machine sent away."""
    inbox = tmp_path / "inbox"
    (inbox / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"secret")
    for real in ("a.png", "sub/b.png"):
        (inbox / real).write_bytes(b"own")
    targets = {
        "out.png": tmp_path / "secret.png",
        "up.png": Path("../secret.png"),
        "twice.png": inbox / "out.png",
        "own.png": Path("a.png"),
        "below.png": inbox / "sub/b.png",
    }
    for name, target in targets.items():
        (inbox / name).symlink_to(target)
    storage = open_storage(f"file://{inbox}/")
    for name in ("out.png", "up.png", "twice.png"):
        with pytest.raises(StorageError, match="leads out of its folder"):
            storage.read(f"file://{inbox}/{name}")
    assert {storage.read(f"file://{inbox}/{name}") for name in ("own.png", "below.png")} == {b"own"}


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others/secret.png").write_bytes(b"secret")
    (tmp_path / "inbox/link").symlink_to(tmp_path / "others")
    assert list(open_storage(f"file://{tmp_path}/inbox/").list(f"file://{tmp_path}/inbox/", None, None)) == []


def test_a_pipe_or_a_device_is_no_picture(tmp_path: Path) -> None:
    """Reading one would never end."""
    os.mkfifo(tmp_path / "pipe.png")
    prefix = f"file://{tmp_path}/"
    storage = open_storage(prefix)
    assert list(storage.list(prefix, None, None)) == []
    for uri in (f"{prefix}pipe.png", "file:///dev/zero"):
        found = storage.stat(uri)
        assert isinstance(found, Missing)
        assert "not a file" in found.detail


def test_a_named_file_that_is_not_there_is_missing(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    found = storage.stat(f"{prefix}not-there.png")
    assert isinstance(found, Missing)
    assert found.code == "MISSING"


def test_reading_what_is_gone_is_a_storage_error_and_names_it(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    with pytest.raises(StorageError, match=r"gone\.png"):
        storage.read(f"{prefix}gone.png")


def test_key_ranges_hold_every_key_once(place: tuple[str, Put]) -> None:
    prefix, storage = filled(place)
    ranges = split_prefix(prefix, every=3)
    assert len(ranges) == 3
    found = [
        source.uri for keys in ranges for source in storage.list(keys["prefix"], keys["after"], keys["until"])
    ]
    assert found == [prefix + key for key in sorted(KEYS)]


def test_an_empty_prefix_has_no_key_ranges(place: tuple[str, Put]) -> None:
    assert split_prefix(place[0]) == []


def test_a_listing_of_many_pages_is_whole(s3: Any) -> None:
    for number in range(1203):
        s3.put_object(Bucket="scans", Key=f"many/{number:05}.png", Body=b"")
    found = list(open_storage("s3://scans/many/").list("s3://scans/many/", "s3://scans/many/00001.png", None))
    assert [source.uri for source in found] == [
        f"s3://scans/many/{number:05}.png" for number in range(2, 1203)
    ]


def test_a_folder_marker_is_no_image(s3: Any) -> None:
    s3.put_object(Bucket="scans", Key="in/", Body=b"")
    s3.put_object(Bucket="scans", Key="in/a.png", Body=b"a")
    assert [found.uri for found in open_storage("s3://scans/in/").list("s3://scans/in/", None, None)] == [
        "s3://scans/in/a.png"
    ]


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="s3://nowhere/in/: there is no such bucket"):
        list(open_storage("s3://nowhere/in/").list("s3://nowhere/in/", None, None))
    with pytest.raises(ConfigurationError, match="s3://nowhere/: there is no such bucket"):
        open_storage("s3://nowhere/").stat("s3://nowhere/a.png")
    with pytest.raises(AirflowFailException, match="there is no such bucket"):
        split_prefix("s3://nowhere/in/")


def test_a_storage_that_cannot_be_reached_may_be_tried_again(connect: Connect) -> None:
    connect(
        "closed",
        conn_type="aws",
        login="x",
        password="a-secret-of-the-test",
        extra={
            "endpoint_url": "http://127.0.0.1:9",
            "region_name": "us-east-1",
            "config_kwargs": {"retries": {"max_attempts": 0}},
        },
    )
    with pytest.raises(StorageError) as raised:
        open_storage("s3://scans/in/", "closed").read("s3://scans/in/a.png")
    assert not raised.value.permanent
    assert "a-secret-of-the-test" not in str(raised.value)


def test_a_connection_that_is_named_must_exist() -> None:
    with pytest.raises(ConfigurationError, match="storage_conn_id: there is no connection 'nobody'"):
        open_storage("s3://scans/in/", "nobody")


@pytest.mark.parametrize(
    ("images", "rule"),
    [
        ("s3://conn@scans/in/", "storage_conn_id"),
        ("file://scans/in/", "three slashes"),
        ("nothing://scans/in/", "no file system for nothing://"),
        ("in/a.png", "with its scheme"),
        (42, "a prefix, a glob"),
    ],
)
def test_a_uri_that_cannot_work_is_refused_with_a_way_out(images: Any, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        open_storage(images)


def test_a_local_folder_that_does_not_exist_is_a_configuration_error(tmp_path: Path) -> None:
    for nowhere in ("nowhere/", "x/" * 3_000):
        prefix = f"file://{tmp_path}/{nowhere}"
        with pytest.raises(ConfigurationError, match="no folder on this machine"):
            list(open_storage(prefix).list(prefix, None, None))


def test_one_list_may_name_files_of_several_storages(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"local")
    s3.put_object(Bucket="scans", Key="b.png", Body=b"remote")
    uris = [f"file://{tmp_path}/a.png", "s3://scans/b.png"]
    storage = open_storage(uris)
    assert [storage.read(uri) for uri in uris] == [b"local", b"remote"]
    assert all(isinstance(storage.stat(uri), Source) for uri in uris)


def test_a_file_that_is_moved_away_during_the_listing_is_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"x")
    listing = LocalStorage().list(f"file://{tmp_path}/", None, None)
    first = next(listing)
    (tmp_path / "b.png").unlink()
    assert [source.uri for source in (first, *listing)] == [f"file://{tmp_path}/{n}.png" for n in "ac"]


def test_a_link_to_itself_is_no_file_and_hides_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    assert [source.uri for source in LocalStorage().list(f"file://{tmp_path}/", None, None)] == [
        f"file://{tmp_path}/b.png"
    ]


def test_folders_may_lie_deeper_than_the_stack_of_python(tmp_path: Path) -> None:
    deep, parents = tmp_path, []
    for _ in range(1_100):
        deep /= "x"
        deep.mkdir()
        parents.append(deep)
    (deep / "a.png").write_bytes(b"x")
    assert [source.size for source in LocalStorage().list(f"file://{tmp_path}/", None, None)] == [1]
    (deep / "a.png").unlink()
    for folder in reversed(parents):  # pytest could not clear it away
        folder.rmdir()


class _OddS3:
    """A client of a store that speaks S3 nearly."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def list_objects_v2(self, **_: Any) -> Any:
        return self.answer

    head_object = list_objects_v2


def test_a_store_that_leaves_out_what_s3_says_is_listed_all_the_same() -> None:
    storage = S3Storage(_OddS3({"Contents": [{"Key": "a.png"}]}))
    assert list(storage.list("s3://b/", None, None)) == [Source("s3://b/a.png")]
    assert storage.stat("s3://b/a.png") == Source("s3://b/a.png")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"Contents": [{}]}, "makes no sense"),
        ({"Contents": [], "IsTruncated": True}, "makes no sense"),
        ({"Contents": [], "IsTruncated": True, "NextContinuationToken": "t"}, "again and again"),
    ],
)
def test_a_listing_that_makes_no_sense_is_a_storage_error_and_has_an_end(answer: Any, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        list(S3Storage(_OddS3(answer)).list("s3://b/", None, None))


@pytest.mark.parametrize("user", ["", "canary:canary@"])
def test_a_store_that_is_away_is_named_by_its_address_and_without_a_password(
    user: str, connect: Connect
) -> None:
    once = {"retries": {"max_attempts": 1}}
    extra = {"endpoint_url": f"http://{user}127.0.0.1:9", "region_name": "us-east-1", "config_kwargs": once}
    connect("aws_away", conn_type="aws", login="x", password="y", extra=extra)
    with pytest.raises(StorageError) as caught:
        list(open_storage("s3://scans/in/", "aws_away").list("s3://scans/in/", None, None))
    assert "while talking to S3 at http://127.0.0.1:9. Check endpoint_url" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "Canary+Token/for=this&test"])
def test_a_debug_log_tells_of_each_request_and_nothing_that_it_was_signed_with(
    token: str, s3: Any, connect: Connect, caplog: pytest.LogCaptureFixture, s3_server: str
) -> None:
    secrets = ("CANARYACCESSKEY", "Canary+Secret/for=this&test", token)
    extra = {"endpoint_url": s3_server, "region_name": "us-east-1", "aws_session_token": token}
    connect("aws_canary", conn_type="aws", login=secrets[0], password=secrets[1], extra=extra)
    s3.put_object(Bucket="scans", Key="in/a.png", Body=b"a picture")
    with caplog.at_level(logging.DEBUG):
        storage = open_storage("s3://scans/in/", "aws_canary")
        assert [storage.read(source.uri) for source in storage.list("s3://scans/in/", None, None)]
    # Airflow's own masking has no part in this.
    lines = [record for record in caplog.records if record.name.startswith(("botocore", "urllib3"))]
    logged = "\n".join(f"{record.getMessage()} {record.args}" for record in lines)
    assert "Sending http request" in logged
    assert "s3/aws4_request" in logged
    assert not [secret for secret in secrets if secret and secret in logged]
    assert not re.search(r"(?i)signature\W*[0-9a-f]{64}", logged)


def test_the_errors_of_any_file_system_are_storage_errors() -> None:
    """Those of some stores are no OSError; one picture's must not end a batch."""

    class Odd:
        def cat_file(self, path: str) -> bytes:
            raise RuntimeError(f"{path}: a word of the store's own")

        info = ls = cat_file

        def invalidate_cache(self) -> None: ...

        def _strip_protocol(self, uri: str) -> str:
            return uri

    storage = FileSystemStorage(Odd())
    for ask in (storage.read, storage.stat):
        with pytest.raises(StorageError, match="could not be read: RuntimeError"):
            ask("odd://b/a.png")


@pytest.mark.parametrize(
    "told",
    [
        "2026-03-01T12:00:00.000Z",
        "2026-03-01T12:00:00.123456+08:00",
        "Sun, 01 Mar 2026 12:00:00 GMT",
        1772366400,
    ],
)
def test_a_time_is_read_as_botocore_reads_it_however_a_store_writes_it(told: object) -> None:
    assert moment_of(told) == parse_timestamp(told)
