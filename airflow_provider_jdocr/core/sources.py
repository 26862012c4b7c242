"""Which images are meant: listings become `Source` records, streamed and in key order.

A source is what a listing says about an object, nothing that needs the object read. Contract:

- `select` turns what an author writes (URIs, a prefix, a glob, a key range) into sources, each input once;
- a named URI that is not there is a `Missing`, never left out in silence;
- `split` cuts a listing into key ranges that cover the whole key space of the prefix without overlap, so that
  an object that appears between the splitting and the reading still belongs to exactly one of them.

URIs compare by code point, which is the order that S3 lists in (UTF-8 bytes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from os.path import commonprefix
from typing import Any, Protocol, TypeAlias

from airflow_provider_jdocr.core.errors import ConfigurationError

_WILDCARD = re.compile(r"[*?\[]")
# A set has a member; a bracket is one if it comes first. Without any, `[]` and `[!]` are what is written.
_TOKENS = re.compile(r"(?:^|(?<=/))\*\*/|\*\*|\*|\?|\[(?:!?\]|![^\]/]|[^!\]/])[^\]/]*\]|.", re.DOTALL)
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that no database takes. A name that is not UTF-8 has the second kind."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """An object as its storage lists it. `size` in bytes, `modified` in seconds since the epoch; `sha256`
    where a picture is meant that was read before, whatever is stored under its name by now.
    """

    uri: str
    size: int | None = None
    etag: str | None = None
    version: str | None = None
    modified: float | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A URI that the author named and that the storage does not hold, or whose name nothing can hold."""

    uri: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys of `prefix` behind `after` (exclusive) up to `until` (inclusive), as full URIs; None = open
    end.
    """

    prefix: str
    after: str | None = None
    until: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        return {"prefix": self.prefix, "after": self.after, "until": self.until}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> KeyRange:
        unknown = set(value) - {"prefix", "after", "until"}
        if unknown or "prefix" not in value:
            raise ConfigurationError(
                f"images: a key range has the keys prefix, after and until; got {sorted(map(str, value))}. "
                "Take it from split_prefix().",
                field="images",
            )
        return cls(
            _place(value["prefix"]), _optional_place(value.get("after")), _optional_place(value.get("until"))
        )

    def __contains__(self, uri: str) -> bool:
        return (self.after is None or uri > self.after) and (self.until is None or uri <= self.until)


class Storage(Protocol):
    """What the line needs of a storage. `read` is called from several threads at once."""

    def list(self, prefix: str, after: str | None, until: str | None) -> Iterator[Source]:
        """The files under `prefix`, recursively, in key order, streamed."""

    def stat(self, uri: str) -> Source | Missing: ...

    def read(self, uri: str) -> bytes: ...


Images: TypeAlias = str | Sequence[str] | Mapping[str, Any]


def select(images: Images, storage: Storage, ignore: Sequence[str] = ()) -> Iterator[Source | Missing]:
    """The sources that `images` means, less those that a glob of `ignore` matches.

    A string is a prefix, or a glob when it holds `*`, `?` or `[`; a list is URIs, taken literally; a
    mapping is a key range of `split`. A name that is no text is `Missing`. Raises `ConfigurationError` for
    anything else, and `StorageError` when a listing fails.
    """
    dropped = tuple(_ignore_pattern(pattern) for pattern in ignore)
    for found in _found(images, storage):
        if not any(pattern.fullmatch(found.uri) for pattern in dropped):
            yield _with_a_name(found)


def validate_images(images: object) -> None:
    """Raises `ConfigurationError` unless `images` has one of the forms that `select` takes. Touches no
    storage.
    """
    if isinstance(images, str):
        _place(images)
    elif isinstance(images, Mapping):
        KeyRange.from_dict(images)
    elif isinstance(images, Sequence) and not isinstance(images, bytes | bytearray):
        for uri in images:
            _uri(uri)
    else:
        raise ConfigurationError(
            f"images: a {type(images).__name__} is neither a prefix, a glob, a list of URIs nor a key range.",
            field="images",
        )


def folder_above(images: Images) -> str:
    """The deepest folder in which everything lies that `images` means; for names only, with its slash."""
    if isinstance(images, str):
        shared = _fixed_part(images)
    elif isinstance(images, Mapping):
        shared = KeyRange.from_dict(images).prefix
    else:
        shared = commonprefix(list(images))  # noqa: RUF071  cut at a slash below
    return shared[: shared.rfind("/") + 1]


def split(
    sources: Iterable[Source], prefix: str, every: int, most: int = 1024
) -> list[dict[str, str | None]]:
    """Key ranges of `prefix` with about `every` objects each, never more than `most` of them.

    The listing is streamed: only the cuts are kept. Where they would be more than `most`, every second one is
    dropped and the ranges double in size. The last range is open, so the ranges hold every key of the prefix.
    """
    if every < 1 or most < 1:
        raise ConfigurationError(f"split_prefix: every and most are at least 1; got {every} and {most}.")
    cuts: list[str] = []
    held, last, seen = 0, "", False
    for source in sources:
        if held >= every and last:
            cuts.append(last)
            held, last = 0, ""
            if len(cuts) >= most:
                # A cut that is dropped leaves its objects to the range behind it.
                cuts, held, every = cuts[1::2], every if len(cuts) % 2 else 0, every * 2
        # A name that is no text is no cut: XCom could not hold it.
        last = last if UNSTORABLE.search(source.uri) else source.uri
        held, seen = held + 1, True
    edges = [None, *cuts, None]
    ranges = pairwise(edges)
    return [KeyRange(prefix, after, until).to_dict() for after, until in ranges] if seen else []


def _found(images: Images, storage: Storage) -> Iterator[Source | Missing]:
    validate_images(images)
    if isinstance(images, Mapping):
        keys = KeyRange.from_dict(images)
        yield from storage.list(keys.prefix, keys.after, keys.until)
    elif not isinstance(images, str):
        yield from (
            Source(uri) if UNSTORABLE.search(uri) else storage.stat(uri) for uri in dict.fromkeys(images)
        )
    elif _WILDCARD.search(images):
        pattern = _glob_pattern(images)
        listed = storage.list(_fixed_part(images), None, None)
        yield from (source for source in listed if pattern.fullmatch(source.uri))
    else:
        yield from storage.list(images, None, None)


def _with_a_name(found: Source | Missing) -> Source | Missing:
    """One name in another encoding must not keep the ledger from all the others."""
    if not UNSTORABLE.search(found.uri):
        return found
    shown = UNSTORABLE.sub(lambda character: ascii(character[0])[1:-1], found.uri)
    return Missing(
        shown, "NAME_NOT_TEXT", "the name is not UTF-8, and no ledger can keep it: rename the file"
    )


def _uri(value: object) -> str:
    if isinstance(value, str) and _SCHEME.match(value):
        return value
    shown = repr(value)[:120]
    raise ConfigurationError(
        f"images: {shown} is no URI. Write it with its scheme, such as s3://bucket/folder/ or file:///folder/.",
        field="images",
    )


def _place(value: object) -> str:
    """A URI to list by; a single image's may be odd and is rejected alone."""
    uri = _uri(value)
    if UNSTORABLE.search(uri):
        raise ConfigurationError(
            f"images: {uri!r:.120} is no text: no file below it could be kept. Rename it.", field="images"
        )
    return uri


def _optional_place(value: object) -> str | None:
    return None if value is None else _place(value)


def _fixed_part(glob: str) -> str:
    """The listing prefix of a glob: up to the last slash before its first wildcard."""
    found = _WILDCARD.search(glob)
    before = glob[: found.start()] if found else glob
    return before[: before.rindex("/") + 1]


def _ignore_pattern(glob: str) -> re.Pattern[str]:
    # Without a slash a glob is about the file's name, wherever it lies, as in .gitignore.
    return _glob_pattern(glob if "/" in glob else f"**/{glob}")


@lru_cache(maxsize=256)
def _glob_pattern(glob: str) -> re.Pattern[str]:
    """A glob over whole URIs: `*` and `?` stay inside a folder, `**` crosses folders, `[…]` is a set."""
    try:
        return re.compile(_as_regex(_TOKENS.findall(glob)), re.DOTALL)
    except re.error as error:
        raise ConfigurationError(f"{glob!r} is no glob: {error}.", field="images") from None


def _as_regex(tokens: Sequence[str]) -> str:
    """Matches in time linear in the tokens and at most quadratic in the URI, whatever is in either.

    What follows a wildcard is taken where it is met first, and nothing of that is tried again: what stands
    behind the next wildcard can only be nearer. A `*` cannot make good for another folder, so what stands
    between two `**` is taken together.
    """
    pieces: list[list[str]] = [[""]]
    for token in tokens:
        if wild := _WILD.get(token):
            pieces.append([wild])
        else:
            pieces[-1].append(_fixed(token))
    crossing = [place for place, (wild, *_) in enumerate(pieces) if wild in _CROSSING]
    edges = [0, *crossing, len(pieces)]
    groups = [list(map("".join, pieces[begin:end])) for begin, end in pairwise(edges)]
    return "".join(f"(?>{_in_one_folder(group)})" for group in groups[:-1]) + _to_the_end(groups[-1])


_WILD = {"*": r"[^/]*?", "**": r".*?", "**/": r"(?:.*?/)??"}
_CROSSING = (_WILD["**"], _WILD["**/"])


def _in_one_folder(pieces: Sequence[str]) -> str:
    """Pieces, a wildcard and what follows it, of which the first alone may cross folders."""
    return pieces[0] + "".join(f"(?>{piece})" for piece in pieces[1:])


def _to_the_end(pieces: Sequence[str]) -> str:
    """The last piece is tried until it ends where the URI does."""
    return _in_one_folder(pieces[:-1]) + pieces[-1] if len(pieces) > 1 else pieces[0]


def _fixed(one: str) -> str:
    """A token that stands for exactly one character, never for a slash that is not written."""
    if one == "?":
        return r"[^/]"
    if len(one) == 1:
        return re.escape(one)
    body = one[1:-1].removeprefix("!")
    members = "".join(
        f"{re.escape(low)}-{re.escape(high)}" if high else re.escape(low)
        for low, high in re.findall(r"(.)(?:-(.))?", body, re.DOTALL)
    )
    return f"[^/{members}]" if one.startswith("[!") else f"(?!/)[{members}]"
