"""What an author writes is what is read: nothing more, nothing less, each once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from airflow_provider_jdocr.core.errors import ConfigurationError
from airflow_provider_jdocr.core.sources import KeyRange, Missing, Source, folder_above, select, split

KEYS = [
    "s3://b/in/2023/a.jpg",
    "s3://b/in/2023/b.PNG",
    "s3://b/in/2024/x/c.jpg",
    "s3://b/in/[1].jpg",
    "s3://b/in/票.jpg",
]


class Listing:
    """A storage that holds `keys` and nothing to read."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        keys = KeyRange(prefix, after, until)
        yield from (Source(key) for key in self.keys if key.startswith(prefix) and key in keys)

    def stat(self, uri: str) -> Source | Missing:
        return Source(uri) if uri in self.keys else Missing(uri, "MISSING", "not there")

    def read(self, uri: str) -> bytes:
        raise AssertionError(f"nothing of {uri} has to be read to select it")


def uris(images: object, *ignore: str) -> list[str]:
    return [source.uri for source in select(images, Listing(KEYS), ignore)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        ("s3://b/in/", KEYS),
        ("s3://b/in/2023/", KEYS[:2]),
        ("s3://b/in/*.jpg", [KEYS[3], KEYS[4]]),
        ("s3://b/in/**/*.jpg", [KEYS[0], KEYS[2], KEYS[3], KEYS[4]]),
        ("s3://b/in/20?3/*", KEYS[:2]),
        ("s3://b/in/202[!3]/**", [KEYS[2]]),
        (["s3://b/in/[1].jpg"], [KEYS[3]]),
        ([KEYS[0], KEYS[0]], [KEYS[0]]),
        ({"prefix": "s3://b/in/", "after": KEYS[0], "until": KEYS[2]}, KEYS[1:3]),
        ([], []),
    ],
)
def test_images_mean_exactly_these(images: object, wanted: list[str]) -> None:
    assert uris(images) == sorted(wanted)


@pytest.mark.parametrize(
    ("glob", "key", "meant"),
    [
        ("**a*b", "axx/ab", True),
        ("**a*b", "ab/x", False),
        ("*a*b/**/c*d", "xaab/y/z/cccd", True),
        ("**/a/**/b", "a/a/b", True),
        ("**/a/**/b", "a/ab", False),
        ("a**/b", "ax/y/b", True),
        ("a**/b", "ab", False),
        ("[!a]", "b", True),
        ("[!a]", "/", False),
        ("[^a]", "^", True),
        ("[^a]", "b", False),
        ("[+-9]", "/", False),
        ("[+-9]", "0", True),
        ("[[&&--~|]", "&", True),
        ("[]a]", "]", True),
        ("[!]a]", "]", False),
        ("[]*?", "[]ab", True),
        ("[]*?", "^", False),
        ("[!]*", "[!]a", True),
        ("[!]*", "a", False),
        ("[a\\]", "\\", True),
        ("[a-]", "-", True),
        ("a\nb*", "a\nb\nc", True),
    ],
)
def test_a_glob_means_what_it_says(glob: str, key: str, meant: bool) -> None:
    source = Listing([f"s3://b/{key}"])
    found = list(select("s3://b/" + glob, source))
    assert [each.uri for each in found] == ([f"s3://b/{key}"] if meant else [])


def test_a_range_that_can_hold_nothing_is_no_glob() -> None:
    with pytest.raises(ConfigurationError, match="is no glob"):
        uris("s3://b/in/[z-a]")


@pytest.mark.parametrize(
    "glob", ["*a" * 12 + "b", "**a" * 12 + "b", "**/*a" * 12 + "b", "**a*" * 8 + "b", "*?" * 40 + "b"]
)
def test_no_glob_takes_long_whatever_the_keys_are(glob: str) -> None:
    """A backtracking one takes hours for a key of 100 letters."""
    keys = [f"s3://b/{text}" for text in ("a" * 1_000, "a/" * 500, "ab" * 500)]
    started = time.process_time()
    list(select("s3://b/" + glob, Listing(keys)))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("images", "folder"),
    [
        ("s3://b/in/", "s3://b/in/"),
        ("s3://b/in/2023-", "s3://b/in/"),
        ("s3://b/in/20*/x.jpg", "s3://b/in/"),
        ({"prefix": "s3://b/in/", "after": KEYS[0]}, "s3://b/in/"),
        (KEYS[:3], "s3://b/in/"),
        (["s3://b/a.jpg", "file:///in/a.jpg"], ""),
        ([], ""),
    ],
)
def test_the_folder_above_holds_all_that_is_meant(images: object, folder: str) -> None:
    assert folder_above(images) == folder  # type: ignore[arg-type]


def test_an_ignored_name_is_ignored_in_every_folder_and_a_path_only_where_it_lies() -> None:
    assert uris("s3://b/in/", "*.jpg") == [KEYS[1]]
    assert uris("s3://b/in/", "s3://b/in/2023/*") == sorted(KEYS[2:])


def test_a_name_that_is_no_text_is_rejected_alone_and_shown_without_what_no_database_takes() -> None:
    """A Windows share in GBK, mounted on Linux; a list that came through another program."""
    gbk = "file:///in/发票.jpg".encode("gbk").decode("utf-8", "surrogateescape")
    found = list(select("file:///in/", Listing(["file:///in/a.jpg", gbk])))
    assert found[0] == Source("file:///in/a.jpg")
    assert isinstance(found[1], Missing)
    assert (found[1].uri, found[1].code) == (
        r"file:///in/\udcb7\udca2\u01b1.jpg".replace(r"\u01b1", "Ʊ"),
        "NAME_NOT_TEXT",
    )
    assert list(select("file:///in/", Listing([gbk]), ["??Ʊ.jpg"])) == [], "it is ignored by its own name"
    (named,) = select(["s3://b/a\0b"], Listing([]))
    assert isinstance(named, Missing)
    assert (named.uri, named.code) == (r"s3://b/a\x00b", "NAME_NOT_TEXT")


def test_no_range_ends_at_a_name_that_is_no_text() -> None:
    keys = ["s3://b/a", "s3://b/b\udcb7", "s3://b/c\udcb7", "s3://b/d", "s3://b/e\udcb7"]
    ranges = [KeyRange.from_dict(value) for value in split(map(Source, keys), "s3://b/", 1)]
    assert [keys.until for keys in ranges] == ["s3://b/a", "s3://b/d", None]
    assert all(sum(key in keys for keys in ranges) == 1 for key in keys)


def test_a_named_image_that_is_not_there_is_said_to_be_missing() -> None:
    assert list(select(["s3://b/none.jpg"], Listing(KEYS))) == [
        Missing("s3://b/none.jpg", "MISSING", "not there")
    ]


@pytest.mark.parametrize(
    "images",
    [
        "in/2023/",
        "/in/2023",
        ["a.jpg"],
        {"prefix": "s3://b/", "from": "x"},
        {"after": "x"},
        7,
        b"s3://b/",
        None,
    ],
)
def test_what_is_no_image_is_refused_before_any_listing(images: object) -> None:
    with pytest.raises(ConfigurationError, match="images"):
        list(select(images, Listing(KEYS)))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 64, 1000])
@pytest.mark.parametrize(("every", "most"), [(1, 4), (1, 1024), (3, 5), (10, 1), (7, 8)])
def test_every_key_belongs_to_exactly_one_range_also_one_that_appears_later(
    count: int, every: int, most: int
) -> None:
    keys = [f"s3://b/{number:05}" for number in range(0, 2 * count, 2)]
    ranges = split((Source(key) for key in keys), "s3://b/", every, most)
    assert len(ranges) <= most
    later = [*keys, *(f"s3://b/{number:05}" for number in range(1, 2 * count, 2)), "s3://b/zzz"]
    for key in later if ranges else []:
        assert sum(key in KeyRange.from_dict(value) for value in ranges) == 1
    assert bool(ranges) == bool(keys)


def test_ranges_hold_about_as_many_keys_as_asked_for_until_they_would_be_too_many() -> None:
    keys = [f"s3://b/{number:05}" for number in range(1000)]

    def sizes(every: int, most: int) -> list[int]:
        ranges = split(map(Source, keys), "s3://b/", every, most)
        return [sum(key in KeyRange.from_dict(value) for key in keys) for value in ranges]

    assert sizes(100, 1024) == [100] * 10
    assert sizes(100, 5) == [200] * 5
    assert max(sizes(1, 10)) <= 256
    with pytest.raises(ConfigurationError, match="at least 1"):
        split([], "s3://b/", 0)
