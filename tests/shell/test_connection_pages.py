"""What the pages tell a new user to type is taken as it is typed: connections, and tasks that use them."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jdocr.core.account import account_from_parts
from airflow_provider_jdocr.server import __main__ as server
from airflow_provider_jdocr.storage import open_storage
from tests.shell.conftest import Connect

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = [ROOT / "README.md", ROOT / "docs" / "quickstart.md", ROOT / "docs" / "connection.md"]
PAGES = [page for path in ENGLISH for page in (path, path.with_suffix(".zh-CN.md"))]
OF_ALL = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
OF_THE_START = pytest.mark.parametrize("page", PAGES[:4], ids=lambda page: page.name)
OF_CONNECTIONS = pytest.mark.parametrize("page", PAGES[4:], ids=lambda page: page.name)
TYPED = re.compile(r"^ *```bash\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@cache
def parser() -> Any:
    from airflow.cli.cli_parser import get_parser

    return get_parser()


def typed(page: Path, first: str) -> Iterator[list[str]]:
    """The commands of a page that begin with this word, as words."""
    for block in TYPED.findall(page.read_text("utf-8")):
        for line in _whole(block.replace("\\\n", " ").splitlines()):
            if line.startswith(f"{first} "):
                yield shlex.split(line, comments=True)[1:]


def _whole(lines: list[str]) -> Iterator[str]:
    """A quoted text may go over several lines."""
    begun = ""
    for line in lines:
        begun = f"{begun}\n{line}" if begun else line
        if begun.count("'") % 2 == 0:
            yield begun
            begun = ""


def connections(page: Path) -> Iterator[Any]:
    return (parser().parse_args(words) for words in typed(page, "airflow"))


def test_all_pages_are_there() -> None:
    assert all(page.is_file() for page in PAGES)


@OF_ALL
def test_every_connection_is_one_that_airflow_takes(page: Path) -> None:
    made = list(connections(page))
    assert made
    for arguments in made:
        if arguments.conn_json:
            assert json.loads(arguments.conn_json)["conn_type"] in {"sqlite", "mysql"}


@OF_ALL
def test_every_account_works(page: Path) -> None:
    made = [arguments for arguments in connections(page) if arguments.conn_type == "jdocr"]
    parts = [(each.conn_login, each.conn_password, json.loads(each.conn_extra)) for each in made]
    for block in re.findall(
        r"AIRFLOW_CONN_\w+='(\{.*?\})'$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    ):
        told = json.loads(block)
        parts.append((told["login"], told["password"], told["extra"]))
    assert parts
    for login, password, extra in parts:
        account_from_parts(login=login, password=password, host=None, port=None, schema=None, extra=extra)


@OF_THE_START
def test_the_local_service_is_started_as_it_says(page: Path) -> None:
    (words,) = typed(page, "python")
    assert words[:2] == ["-m", "airflow_provider_jdocr.server"]
    assert server.arguments().parse_args(words[2:]).port == 8600


@OF_CONNECTIONS
def test_a_store_that_speaks_s3_is_read_through_its_endpoint(
    page: Path, s3: Any, s3_server: str, connect: Connect
) -> None:
    s3.put_object(Bucket="scans", Key="inbox/a.png", Body=b"a picture")
    (minio,) = (each for each in connections(page) if each.conn_id == "minio")
    extra = json.loads(minio.conn_extra)
    assert extra["endpoint_url"].startswith("https://")
    extra["endpoint_url"] = s3_server
    connect("minio", conn_type="aws", login=minio.conn_login, password=minio.conn_password, extra=extra)
    storage = open_storage("s3://scans/inbox/", "minio")
    assert [storage.read(each.uri) for each in storage.list("s3://scans/inbox/", None, None)] == [
        b"a picture"
    ]


@OF_CONNECTIONS
def test_the_bucket_is_written_into_the_hosts_name_where_the_page_says_so(
    page: Path, connect: Connect
) -> None:
    (told,) = re.findall(r'`("config_kwargs": .*?)`', page.read_text("utf-8"))
    extra = {"endpoint_url": "https://oss.example.com", "region_name": "x"} | json.loads(f"{{{told}}}")
    connect("virtual", conn_type="aws", login="x", password="y", extra=extra)
    storage = open_storage("s3://scans/", "virtual")
    url = storage._client.generate_presigned_url("get_object", {"Bucket": "scans", "Key": "a"})  # type: ignore[attr-defined]  # noqa: SLF001
    assert url.startswith("https://scans.oss.example.com/a?")


@OF_CONNECTIONS
def test_the_tasks_of_the_page_can_be_made(page: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    made: dict[str, Any] = {}
    exec(code, made)  # noqa: S102  the page's own example
    assert made["from_a_folder"].images.startswith("file:///")
