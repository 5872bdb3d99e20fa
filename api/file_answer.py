"""What is answered to a request for a file that never changes: preconditions, one range, headers. RFC 9110 as a pure decision.

* Preconditions in the order of section 13.2.2: If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, then Range with If-Range.
* One range of bytes is served. Several, another unit, or what is no range is ignored, as section 14.2 allows: the whole file is a
  right answer to any of them. A range without a byte of the file in it is refused.
* The name is given twice (RFC 6266, RFC 8187): in plain ASCII for old clients, and as it is.

Left to others: who may have the file (`pipeline.admission`), sending it (`sending.py`).
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from api.errors import PreconditionFailed, RangeNotSatisfiable
from pipeline.values import Digest

_RANGE: Final = re.compile(r"(?i:bytes) *= *([0-9]*) *- *([0-9]*) *")
_DIGITS_MAX: Final = 18
_SAFE_NAME: Final = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(frozen=True, slots=True)
class File:
    """What is asked for. `modified_at` is when these bytes got this name; `cache_control` follows from who asks."""

    digest: Digest
    size: int
    filename: str
    media_type: str
    modified_at: datetime
    cache_control: str

    @property
    def etag(self) -> str:
        """The digest: a strong validator."""
        return f'"sha256:{self.digest}"'


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes `[start, end)`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers, and the bytes that follow: None for none."""

    status: int
    headers: dict[str, str]
    span: Span | None


def answer(method: str, headers: Mapping[str, str], file: File) -> Answer:
    """The answer. Raises `PreconditionFailed` and `RangeNotSatisfiable`."""
    fields = headers_of(file)
    _check_preconditions(headers, file)
    if _known_already(headers, file):
        return Answer(304, fields, None)
    span = None
    if method == "GET" and _range_still_fits(headers.get("if-range"), file):
        span = span_of(headers.get("range"), file.size)
    sent = span or Span(0, file.size)
    fields["Content-Type"] = file.media_type
    fields["Content-Length"] = str(sent.end - sent.start)
    if span is not None:
        fields["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    return Answer(200 if span is None else 206, fields, sent if method == "GET" else None)


def headers_of(file: File) -> dict[str, str]:
    """What every answer about the file says of it."""
    raw = base64.b64encode(bytes.fromhex(file.digest)).decode()
    return {
        "ETag": file.etag,
        "Repr-Digest": f"sha-256=:{raw}:",
        "Digest": f"sha-256={raw}",
        "X-Checksum-Sha256": file.digest,
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(file.filename),
        "Last-Modified": format_datetime(file.modified_at, usegmt=True),
        "Cache-Control": file.cache_control,
        "Content-Security-Policy": "sandbox",
    }


def content_disposition(filename: str) -> str:
    """Always a download, never shown. No header can be broken out of."""
    return f"attachment; filename=\"{_SAFE_NAME.sub('_', filename)}\"; filename*=UTF-8''{quote(filename, safe='')}"


def span_of(header: str | None, size: int) -> Span | None:
    """The one range that is asked for; None for the whole file."""
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = (text if len(text) <= _DIGITS_MAX else "9" * _DIGITS_MAX for text in match.groups())
    if first and last and int(last) < int(first):
        return None  # section 14.1.1: invalid, so it is as if it were not there
    start, end = (
        (int(first), min(size, int(last) + 1 if last else size))
        if first
        else (max(0, size - int(last)), size)
    )
    if start >= end:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes.",
            remedy=f"Ask for bytes 0 to {size - 1}." if size else "Leave the range out: the file is empty.",
            file_bytes=size,
        )
    return Span(start, end)


def _check_preconditions(headers: Mapping[str, str], file: File) -> None:
    wanted = headers.get("if-match")
    if wanted is not None:
        fine = wanted.strip() == "*" or file.etag in _tags(wanted)
    else:
        since = _moment(headers.get("if-unmodified-since"))
        fine = since is None or _seconds(file.modified_at) <= since
    if not fine:
        raise PreconditionFailed(
            f"The file is {file.etag}, and not what the request expects.",
            remedy="Leave If-Match and If-Unmodified-Since out, or ask for the artifact whose digest you have.",
        )


def _known_already(headers: Mapping[str, str], file: File) -> bool:
    known = headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or file.etag in [tag.removeprefix("W/") for tag in _tags(known)]
    since = _moment(headers.get("if-modified-since"))
    return since is not None and _seconds(file.modified_at) <= since


def _range_still_fits(condition: str | None, file: File) -> bool:
    """If-Range: a strong entity tag, or the very date that was sent. Anything else means the whole file."""
    if condition is None or condition.strip() == file.etag:
        return True
    return _moment(condition) == _seconds(file.modified_at)


def _tags(header: str) -> list[str]:
    return [part.strip() for part in header.split(",")]


def _seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _moment(header: str | None) -> datetime | None:
    """A date of HTTP; None for what is none, which counts as not there."""
    try:
        return None if header is None else parsedate_to_datetime(header).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
