"""The endpoint table: what each of JD's invoice endpoints wants, column by column.

Address, way to sign, body encoding and reply schema are independent of each other: a connection may change
one and keep the others. A limit is written here and nowhere else, with where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

AuthScheme = Literal["jdcloud2", "appkey"]
BodyEncoding = Literal["raw", "base64", "data_uri"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: a document service of JD as its description defines it."""

    name: str
    base_url: str
    """Scheme and host at which ``auth`` is the way to sign."""
    path: str
    auth: AuthScheme
    body_encoding: BodyEncoding
    content_type: str
    formats: frozenset[str]
    """Of ``jpeg`` (JFIF is one), ``png`` and ``bmp``."""
    max_bytes: int
    """A file must have strictly fewer bytes; counted before base64."""
    min_side_pixels: int
    """The shorter side of a picture must have at least so many pixels."""
    parser: str
    """Name of the reply schema."""
    limits_source: str
    other_doors: tuple[tuple[AuthScheme, str], ...] = ()
    """The same service behind another host, which wants another way to sign."""

    def base_url_for(self, auth: AuthScheme) -> str | None:
        """JD's address of this service for a way to sign; None when none is known."""
        return dict(((self.auth, self.base_url), *self.other_doors)).get(auth)


# "< 5 MB" does not say which megabyte: the smaller one is right under both readings.
_FIVE_MEGABYTES = 5_000_000

# JD names no lower bound. An invoice prints some thirty rows on its shorter side, so below this a row has
# three pixels and no reader can tell a digit; the call would be billed all the same.
_UNREADABLE_BELOW_PIXELS = 100

_ROWS = (
    Endpoint(
        name="ocr_invoice",
        base_url="https://aiapi.jdcloud.com",
        path="/jdai/ocr_invoice",
        auth="jdcloud2",
        body_encoding="raw",
        content_type="application/octet-stream",
        formats=frozenset({"jpeg", "png"}),
        max_bytes=_FIVE_MEGABYTES,
        min_side_pixels=_UNREADABLE_BELOW_PIXELS,
        parser="ocr_invoice",
        limits_source="JD 增值税发票识别, 接口数据要求: jpg(jpeg), png, jfif; 小于5M. Side: ours.",
        # Seen in public callers, not in JD's description.
        other_doors=(("appkey", "https://aiapi.jd.com"),),
    ),
    Endpoint(
        name="intsig_invoice",
        base_url="https://aiapi.jd.com",
        path="/INTSIG/invoice",
        auth="appkey",
        # The description asks for base64 twice and shows binary once; the requirements are followed.
        body_encoding="base64",
        content_type="application/octet-stream",
        formats=frozenset({"jpeg", "png", "bmp"}),
        max_bytes=_FIVE_MEGABYTES,
        min_side_pixels=_UNREADABLE_BELOW_PIXELS,
        parser="intsig_invoice",
        limits_source="JD 增值税发票 (INTSIG), 接口数据要求: jpg/jpeg/png/bmp; 小于5M. Side: ours.",
    ),
)

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({row.name: row for row in _ROWS})
