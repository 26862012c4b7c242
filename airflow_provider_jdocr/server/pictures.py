"""The posted body: its encoding, and what a picture must be before anyone looks at it.

Each fault has a reason, which the contracts translate into the code of their endpoint.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from airflow_provider_jdocr.core.endpoints import Endpoint

Encoding = Literal["raw", "base64", "data_uri", "any"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Reason = Literal["no_body", "empty", "format", "too_large", "unreadable", "program"]

_DATA_URI = re.compile(rb"data:image/[a-z.+-]+;base64,", re.IGNORECASE)
_MOST_SCANS = 200  # of a JPEG: each goes over all pixels, for a few bytes; a sound one has ten or so
_SIGNATURES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"BM", "bmp"))


@dataclass(frozen=True, slots=True)
class Picture:
    content: bytes = field(repr=False)
    format: str


def open_picture(body: bytes, encoding: Encoding, endpoint: Endpoint) -> Picture | Reason:
    """The picture in a body, or why it is refused before it is read."""
    if not body:
        return "no_body"
    content = decode(body, encoding)
    if content is None:
        return "format"
    if not content:
        return "empty"
    if len(content) >= endpoint.max_bytes:
        return "too_large"
    found = format_of(content)
    if found == "jpeg" and content.count(b"\xff\xda") > _MOST_SCANS:
        return "unreadable"
    return Picture(content, found) if found in endpoint.formats else "format"


def decode(body: bytes, encoding: Encoding) -> bytes | None:
    """The file's bytes; None when the body has another encoding."""
    if encoding == "raw":
        return body
    prefix = _DATA_URI.match(body)
    if encoding == "data_uri":
        return _from_base64(body[prefix.end() :]) if prefix else None
    if encoding == "base64":
        return _from_base64(body)
    if prefix:
        return _from_base64(body[prefix.end() :])
    return body if format_of(body) else _from_base64(body)


def format_of(content: bytes) -> str | None:
    """Format by content: ``jpeg``, ``png``, ``bmp`` or None."""
    return next((name for start, name in _SIGNATURES if content.startswith(start)), None)


def _from_base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return None
