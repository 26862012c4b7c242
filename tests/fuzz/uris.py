"""What an author writes in `images` and `ignore`, what lies in a storage, and what a storage answers.

Declared: a selection is what the globs mean, told here by a matcher of another kind; everything else is a
`Source`, a `Missing`, bytes, a `ConfigurationError` or a `StorageError`. No glob takes long.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from urllib3 import HTTPResponse

from airflow_provider_jdocr.core.errors import ConfigurationError, StorageError
from airflow_provider_jdocr.core.sources import (
    UNSTORABLE,
    KeyRange,
    Missing,
    Source,
    Storage,
    select,
    split,
    validate_images,
)
from airflow_provider_jdocr.s3 import S3Storage
from airflow_provider_jdocr.storage import FileSystemStorage, LocalStorage, open_storage
from tests.fuzz import mutate
from tests.fuzz.run import Breach, Outcome

_PIECES = (
    *(
        "*",
        "*",
        "**",
        "**/",
        "/**/",
        "?",
        "a",
        "a",
        "b",
        "ab",
        "/",
        "a/",
        ".jpg",
        "票",
        "\n",
        "\\",
        "#",
        "%2F",
    ),
    *(
        "[a]",
        "[!a]",
        "[ab]",
        "[a-c]",
        "[!a-c]",
        "[]a]",
        "[+-9]",
        "[^a]",
        "[a",
        "[",
        "]",
        "[]",
        "[z-a]",
        "[[a&&b]",
    ),
)
_LETTERS = (
    "a",
    "a",
    "a",
    "b",
    "c",
    "/",
    "^",
    "]",
    "[",
    "&",
    ".jpg",
    "票",
    "\n",
    "\\",
    "é",
    "e\u0301",
    "#",
    "\udcb7",
)
_PREFIXES = ("s3://b/", "s3://b/in/", "file:///in/", "S3://b/", "memory://x/", "gs://b/")
_SCHEMES = ("file", "FILE", "nothing", "http", "a+b", "local", "")
_NAMES = (
    *(
        "a.jpg",
        "a",
        "a b",
        " ",
        "a%20b",
        "a#b",
        "a?b",
        "a\nb",
        "票.jpg",
        "é",
        "e\u0301",
        "..a",
        "...",
        "-",
        "*",
        "[a]",
    ),
    *("\\", "'", '"', "a" * 255, "\x01", "\x7f", "\udcb7\udca2", "~", "$HOME", "a&b", "a+b", "z.PNG"),
)

Given = tuple[Any, ...]
"""What is tried, and its arguments."""


class Uris:
    """Selections, key ranges and splits over a listing in memory; then real storages, and S3's answers."""

    name = "uris"
    seconds = 5.0
    megabytes = 300

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="jdocr-fuzz-")
        self._files = _fill(Path(self._folder))
        self._answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")
        self._storages: dict[str, Storage] = {
            "file": LocalStorage(),
            "memory": _memory(),
            "s3": S3Storage(_client(lambda: self._answer)),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Python's own rmtree cannot: it is recursive.
        subprocess.run(["rm", "-rf", self._folder], check=False)

    def seeds(self) -> list[Given]:
        return [
            ("select", "s3://b/in/**/*.jpg", ["s3://b/in/a.jpg", "s3://b/in/x/b.jpg"], ["*.png"]),
            ("select", ["s3://b/a"], ["s3://b/a", "s3://b/b"], []),
            ("select", {"prefix": "s3://b/", "after": "s3://b/a", "until": None}, ["s3://b/b"], ["**/a/*"]),
            ("split", ["s3://b/a", "s3://b/b", "s3://b/c"], 1, 2),
            ("range", {"prefix": "s3://b/", "after": None}),
            ("open", "file:///in/"),
            ("list", "file", "", None, None),
            ("list", "memory", "", None, None),
            ("s3", "s3://b/in/", 200, {}, _listing(("in/a.jpg", "in/b.jpg"))),
            ("s3", "s3://b/a", 404, {}, b""),
            ("s3", "s3://b/a", 200, dict(_HEADERS), b"content"),
        ]

    def new(self, rng: random.Random, seeds: Sequence[Given]) -> Given:
        match rng.randrange(20):
            case 0:
                return (
                    "split",
                    sorted(_keys(rng)),
                    rng.choice((1, 1, 2, 3, 0, -1)),
                    rng.choice((1, 2, 3, 1024)),
                )
            case 1:
                value = mutate.mutated_json(
                    rng, {"prefix": "s3://b/", "after": "s3://b/a", "until": None}, _RANGE
                )
                return "range", value
            case 2:
                return "open", _odd_images(rng)
            case 3 | 4:
                return "list", rng.choice(("file", "memory")), *(_below(rng, self._files) for _ in range(3))
            case 5 | 6:
                return "stat", rng.choice(("file", "memory")), _below(rng, self._files)
            case 7 | 8 | 9:
                return _s3_answer(rng)
        return "select", _images(rng), _keys(rng), [_glob(rng) for _ in range(rng.choice((0, 0, 1, 2)))]

    def judge(self, given: Given) -> Outcome:
        what, *arguments = given
        try:
            return Outcome(what, getattr(self, f"_{what}")(*arguments))
        except (ConfigurationError, StorageError) as error:
            said = str(error)
            if not said or len(said) > 20_000 + 4 * len(repr(given)):
                raise Breach(f"an error of {len(said)} characters") from error
            said.encode("utf-8", "backslashreplace")
            return Outcome(f"{what}: {type(error).__name__}", said[:12])

    # ── what is tried; each gives what makes one outcome differ from another ──

    def _select(self, images: Any, keys: list[str], ignore: list[str]) -> Any:
        found = list(select(images, _Listing(keys), ignore))
        for one in found:
            if UNSTORABLE.search(one.uri):
                raise Breach(f"no database takes {one.uri!r}")
        if any(isinstance(one, Missing) and one.code == "NAME_NOT_TEXT" for one in found):
            return "names that are no text"
        expected = _meant(images, keys, ignore)
        if [one.uri for one in found] != expected:
            raise Breach(f"selected {[one.uri for one in found]}, meant {expected}")
        return type(images).__name__, len(found)

    def _split(self, keys: list[str], every: int, most: int) -> Any:
        ranges = [KeyRange.from_dict(value) for value in split(map(Source, keys), "s3://b/", every, most)]
        if len(ranges) > most:
            raise Breach(f"{len(ranges)} ranges, at most {most}")
        for key in keys:
            if sum(key in one for one in ranges) != 1:
                raise Breach(f"{key!r} is in {sum(key in one for one in ranges)} ranges")
        if any(UNSTORABLE.search(one.until or "") for one in ranges):
            raise Breach("a range that XCom cannot hold")
        return len(ranges)

    def _range(self, value: Any) -> Any:
        keys = KeyRange.from_dict(value)
        validate_images(value)
        if KeyRange.from_dict(keys.to_dict()) != keys:
            raise Breach(f"{keys} does not survive XCom")
        return keys.after is None, keys.until is None

    def _open(self, images: Any) -> Any:
        return type(open_storage(images)).__name__

    def _list(self, scheme: str, prefix: str, after: str | None, until: str | None) -> Any:
        base = self._base(scheme)
        uris = [None if part is None else base + part for part in (prefix, after, until)]
        validate_images({"prefix": uris[0] or base, "after": uris[1], "until": uris[2]})
        listed = list(islice(self._storages[scheme].list(uris[0] or base, uris[1], uris[2]), 10_000))
        found = [source.uri for source in listed]
        plain = not {"", ".", ".."} & set((prefix or "").split("/")[:-1])
        if scheme == "file" and plain:
            keys = KeyRange(uris[0] or base, uris[1], uris[2])
            expected = [
                base + key
                for key in self._files
                if (base + key).startswith(keys.prefix) and base + key in keys
            ]
            if found != expected:
                raise Breach(f"listed {found}, there are {expected}")
        return scheme, len(found)

    def _stat(self, scheme: str, key: str | None) -> Any:
        storage, uri = self._storages[scheme], self._base(scheme) + (key or "")
        if UNSTORABLE.search(uri):
            return "not asked for: `select` has rejected it"
        found = storage.stat(uri)
        if isinstance(found, Missing):
            return scheme, found.code
        content = storage.read(uri)
        if found.size != len(content):
            raise Breach(f"{found.size} bytes by its listing, {len(content)} when read")
        return scheme, "there"

    def _s3(self, uri: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
        self._answer = status, dict(headers), body
        storage = self._storages["s3"]
        said = []
        for ask in (
            lambda: len(list(islice(storage.list(uri, None, None), 1_000))),
            lambda: type(storage.stat(uri)).__name__,
            lambda: len(storage.read(uri)),
        ):
            try:
                said.append(ask())
            except (ConfigurationError, StorageError) as error:
                said.append(type(error).__name__)
        return status, *said

    def _base(self, scheme: str) -> str:
        return {"file": f"file://{self._folder}/", "memory": "memory://scans/"}[scheme]


class _Listing:
    """A storage that holds `keys`, in key order."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = sorted(set(keys))

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        keys = KeyRange(prefix, after, until)
        yield from (Source(key) for key in self.keys if key.startswith(prefix) and key in keys)

    def stat(self, uri: str) -> Source | Missing:
        return Source(uri) if uri in self.keys else Missing(uri, "MISSING", "not there")

    def read(self, uri: str) -> bytes:
        raise NotImplementedError


# ── what a glob means, told by sets of places instead of a regular expression ──


def _meant(images: Any, keys: Sequence[str], ignore: Sequence[str]) -> list[str]:
    there = sorted(set(keys))
    if isinstance(images, Mapping):
        wanted = KeyRange.from_dict(images)
        found = [key for key in there if key.startswith(wanted.prefix) and key in wanted]
    elif not isinstance(images, str):
        found = list(dict.fromkeys(images))
    elif any(character in images for character in "*?["):
        found = [key for key in there if matches(images, key)]
    else:
        found = [key for key in there if key.startswith(images)]
    dropped = [glob if "/" in glob else f"**/{glob}" for glob in ignore]
    return [key for key in found if not any(matches(glob, key) for glob in dropped)]


def matches(glob: str, text: str) -> bool:
    """Whether the glob means the text: the places that may be reached, one piece of it after another."""
    places, at = {0}, 0
    while at < len(glob) and places:
        step, at = _step(glob, at)
        places = step(text, places)
    return len(text) in places and at >= len(glob)


def _step(glob: str, at: int) -> tuple[Callable[[str, set[int]], set[int]], int]:
    if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
        return _behind_folders, at + 3
    if glob.startswith("**", at):
        return lambda text, places: set(range(min(places), len(text) + 1)), at + 2
    if glob[at] == "*":
        return _within_a_folder, at + 1
    if glob[at] == "?":
        return _one(lambda character: character != "/"), at + 1
    if glob[at] == "[" and (end := _end_of_set(glob, at)):
        return _one(_member_of(glob[at + 1 : end])), end + 1
    return _one(lambda character: character == glob[at]), at + 1


def _behind_folders(text: str, places: set[int]) -> set[int]:
    first = min(places)
    return places | {place + 1 for place, character in enumerate(text) if character == "/" and place >= first}


def _within_a_folder(text: str, places: set[int]) -> set[int]:
    reached: set[int] = set()
    for place in sorted(places):
        while place not in reached:
            reached.add(place)
            if place < len(text) and text[place] != "/":
                place += 1
    return reached


def _one(fits: Callable[[str], bool]) -> Callable[[str, set[int]], set[int]]:
    return lambda text, places: {place + 1 for place in places if place < len(text) and fits(text[place])}


def _end_of_set(glob: str, at: int) -> int | None:
    """Where a set ends, None where none does; a set has a member, a bracket is one if it comes first."""
    begin = at + 2 if glob.startswith("[!", at) else at + 1
    end = glob.find("]", begin + 1)
    return end if end >= 0 and "/" not in glob[at:end] else None


def _member_of(body: str) -> Callable[[str], bool]:
    members, negated = body.removeprefix("!"), body.startswith("!")
    ranges, at = [], 0
    while at < len(members):
        last = at + 2 if members[at + 1 : at + 2] == "-" and at + 2 < len(members) else at
        ranges.append((members[at], members[last]))
        at = last + 1
    return lambda one: one != "/" and negated is not any(low <= one <= high for low, high in ranges)


# ── inputs ──

_RANGE = ("prefix", "after", "until", "from")


def _keys(rng: random.Random) -> list[str]:
    prefix = rng.choice(("s3://b/", "s3://b/in/", "file:///in/"))
    longest = rng.choice((3, 8, 8, 30, 1_000))
    return [
        prefix + "".join(rng.choices(_LETTERS, k=rng.randint(0, longest))) for _ in range(rng.randint(0, 6))
    ]


def _glob(rng: random.Random) -> str:
    most = rng.choice((2, 6, 12, 40))
    glob = "".join(rng.choices(_PIECES, k=rng.randint(1, most)))
    return glob * rng.choice((1, 1, 1, 10)) if len(glob) < 20 else glob


def _images(rng: random.Random) -> Any:
    match rng.randrange(8):
        case 0:
            return [key if rng.random() < 0.8 else _odd_uri(rng) for key in _keys(rng)]
        case 1:
            return {"prefix": "s3://b/", "after": _odd_uri(rng), "until": rng.choice((None, _odd_uri(rng)))}
        case 2:
            return _odd_images(rng)
    return rng.choice(_PREFIXES) + _glob(rng)


def _odd_uri(rng: random.Random) -> str:
    return rng.choice(_PREFIXES) + rng.choice(
        (mutate.some_text(rng), "".join(rng.choices(_LETTERS, k=4)), "x" * 1_024)
    )


def _odd_images(rng: random.Random) -> Any:
    scheme = rng.choice(_SCHEMES)
    rest = rng.choice(
        (
            "/in/",
            "in/",
            "",
            "/",
            "//",
            "/../..",
            "conn@x/",
            "[",
            "[::1",
            "\0",
            "a:b:c/",
            mutate.some_text(rng),
        )
    )
    uri = f"{scheme}://{rest}"
    return rng.choice(
        (
            uri,
            [uri],
            [uri, "file:///a"],
            {"prefix": uri},
            mutate.some_value(rng),
            mutate.some_text(rng),
            b"a",
            7,
        )
    )


def _below(rng: random.Random, files: Sequence[str]) -> str | None:
    """A key below a folder, or a part or a disguise of one."""
    key = rng.choice(files)
    cut = key[: rng.randint(0, len(key))]
    odd = (
        "../",
        "..",
        "./a",
        "//",
        "a//b",
        f"{key}/",
        f"{key}/../{key}",
        "\0",
        "x" * 5_000,
        "nowhere/",
        "~/",
        "%2e%2e/",
    )
    return rng.choice((key, cut, cut + rng.choice(_NAMES), rng.choice(odd), mutate.some_text(rng), None, ""))


def _fill(folder: Path) -> list[str]:
    """Files and folders of every name, links that lead nowhere; gives the keys of the files, sorted."""
    folders = (
        "d",
        "d/e",
        "d.e",
        "d e",
        "D",
        "d/[x]",
        "d\udcb7",
        *("deep" + "/x" * depth for depth in range(_DEPTH)),
    )
    for name in folders:
        (folder / name).mkdir()
    keys = [*_NAMES, *(f"{name}/z.jpg" for name in (*folders[:7], folders[-1]))]
    for key in keys:
        (folder / key).write_bytes(os.fsencode(key))
    (folder / "nowhere").symlink_to("not-there")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to(folder)
    (folder / "link.jpg").symlink_to("a.jpg")
    os.mkfifo(folder / "pipe")
    return sorted([*keys, "link.jpg"])


_DEPTH = 1_200
"""Folders in folders: more than Python's stack has frames."""


def _memory() -> FileSystemStorage:
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # has no types

    system = MemoryFileSystem()
    for name in ("a.jpg", "d/z.jpg", "d/e/z.jpg", "a b", "票.jpg", "a#b", "a?b"):
        system.pipe_file(f"/scans/{name}", name.encode())
    return FileSystemStorage(system)


# ── S3 ──

_HEADERS = {
    "ETag": '"0cc175b9c0f1b6a831c399e269772661"',
    "Last-Modified": "Wed, 12 Oct 2022 17:50:00 GMT",
    "Content-Length": "7",
    "Content-Type": "binary/octet-stream",
}
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


_ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2022-10-12T17:50:00.000Z</LastModified>"
    "<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>"
)
_ERROR = "<Error><Code>{}</Code></Error>"


def _listing(keys: Sequence[str], more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    inside = more + "".join(map(_ENTRY.format, keys))
    return f'<?xml version="1.0"?><ListBucketResult xmlns="{_NAMESPACE}">{inside}</ListBucketResult>'.encode()


def _s3_answer(rng: random.Random) -> Given:
    """A URI, and what S3 answers to all that is asked about it."""
    bucket = rng.choice(
        (
            "b",
            "scans",
            "bucket.with.dots",
            "b" * 63,
            "b" * 64,
            "UPPER",
            "",
            "..",
            "b?c",
            "票",
            "arn:aws:s3:::x",
        )
    )
    key = rng.choice(
        ("", "in/", "a", "a//b", "../a", "/a", "a\nb", "%2e", "x" * 1_024, "x" * 1_025, mutate.some_text(rng))
    )
    status = rng.choice((200, 200, 200, 200, 204, 206, 301, 400, 403, 404, 409, 412, 500, 503, 999))
    more = rng.choice(
        (
            "",
            "<IsTruncated>true</IsTruncated>",
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
            "<EncodingType>url</EncodingType>",
            "<IsTruncated>maybe</IsTruncated>",
        )
    )
    error = _ERROR.format(rng.choice(("NoSuchKey", "NoSuchBucket", "AccessDenied", "SlowDown", ""))).encode()
    body = rng.choice((_listing(("in/a", "in/b%2"), more), _listing((), more), error, b"content", b""))
    for _ in range(rng.choice((0, 0, 1, 3))):
        body = mutate.mutated_bytes(
            rng, body, (b"<", b"&#0;", b"&x;", b"\xff", b"<Contents/>", b"<Size>x</Size>")
        )
    headers = {name: value for name, value in _HEADERS.items() if rng.random() < 0.85}
    if rng.random() < 0.4:
        text = rng.choice(("", "x", "-1", "99", "１", "Thu, 99 Foo", "gzip", "9" * 30, "\x00"))
        headers[rng.choice((*_HEADERS, "x-amz-version-id", "Content-Encoding", "Content-Range"))] = text
    return "s3", f"s3://{bucket}/{key}", status, headers, body


def _client(answer: Callable[[], tuple[int, dict[str, str], bytes]]) -> Any:
    """A client of S3 whose every request gets this answer instead of a connection."""
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=Config(retries={"mode": "standard", "max_attempts": 1}),
    )

    def reply(request: Any, **_: Any) -> AWSResponse:
        status, headers, body = answer()
        raw = HTTPResponse(
            io.BytesIO(b"" if request.method == "HEAD" else body),
            headers,
            status,
            preload_content=False,
            decode_content=False,
            # The rest is read by botocore's own connection, which says in its own words that too little came.
            enforce_content_length=request.stream_output,
        )
        return AWSResponse(request.url, status, raw.headers, raw)

    client.meta.events.register("before-send.s3", reply)
    return client
