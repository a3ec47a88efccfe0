"""What went wrong while reading, sorted by what can be done about it.

Why this exists: every library that brings bytes from elsewhere has its own exceptions for the same
few things. Three are told apart here: a place that did not answer and may be asked again
(`Interruption`), bytes that are not what they claim to be (`Damage`: once more may help if they came
over a network), and what no repetition mends (a plain RequestError or RunError).
Messages of libraries quote URLs, so what could be a secret is taken out of each.
"""

from __future__ import annotations

import errno
import http.client
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from linnet.config import LinnetError, RequestError, RunError

_USER = re.compile(r"(?<=://)[^/\s@'\"]*@")  # a revision, as in hf://owner/name@main, stands behind a slash
_WEB_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\")>]*")
_QUERY = re.compile(r"(?<=[^\s])\?[\w.-]+=[^\s'\")>]*")
_COMMIT = re.compile(r"@[0-9a-f]{40}(?=/|$)")
_LIBRARIES = (
    "aiohttp", "aiobotocore", "asyncio", "botocore", "fsspec", "gcsfs", "google", "httpcore", "httpcore2",
    "httpx", "httpx2", "huggingface_hub", "requests", "s3fs", "ssl", "urllib3",
)  # fmt: skip
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_ASK_AGAIN = (408, 425, 429)
_MISSING = (404, 410)
_REFUSED = (401, 403)
_NETWORK_ERRNO = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
        "ENETUNREACH", "ENETRESET", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "EPIPE", "EAGAIN",
    )
    if hasattr(errno, name)
)  # fmt: skip


class Interruption(RunError):
    """A place did not answer, or stopped in the middle; it may be asked again, after `after` seconds.

    `file` is the index of the source's file that was at hand, where that is known.
    """

    file: int | None = None

    def __init__(self, what: str, where: str = "", mend: str = "", after: float | None = None) -> None:
        super().__init__(what, where, mend)
        self.after = after


class Damage(RequestError):
    """Bytes that are not what they claim to be, in file number `file`. `remote` when they came over a network."""

    file: int | None = None
    remote = False


def redacted(text: str) -> str:
    """A text without what in its URLs could be a secret: user and password, and queries (signatures)."""
    return _QUERY.sub("", _WEB_QUERY.sub(r"\1", _USER.sub("", text)))


def shown(path: str) -> str:
    """A path or URL as people are told it: without secrets, and without the hub's commit."""
    return _COMMIT.sub("", redacted(path)) if "://" in path else path


def reason_of(error: BaseException) -> str:
    """An exception's first line, or its kind when it says nothing."""
    return redacted(next(iter(str(error).splitlines()), "")) or type(error).__name__


def trouble_with(error: Exception, place: str, remote: bool, begun: bool = True) -> LinnetError | None:
    """What an exception that came while a file was looked for or read means; None for a fault of ours.

    Args:
        place: the file, as people are told it.
        remote: whether it lies behind a network.
        begun: whether work had begun, so that what is missing is no longer a wrong request.
    """
    if isinstance(error, LinnetError):
        return error
    if isinstance(error, FileNotFoundError) and isinstance(cause := error.__cause__, Exception):
        error = cause  # fsspec calls a web file missing whatever the answer was
    kind = RunError if begun and remote else RequestError
    status = _status_of(error)
    if status in _MISSING or (status is None and isinstance(error, FileNotFoundError)):
        return kind("there is no such file", place, "check the path")
    if isinstance(error, PermissionError) or status in _REFUSED or type(error).__name__ in _NO_CREDENTIALS:
        if not remote:
            return kind(f"cannot be read ({_strerror(error)})", place, "check the file")
        return kind(f"access was refused ({reason_of(error)})", place,
                    "log in as its library does (hf auth login, AWS_PROFILE, gcloud auth …)")  # fmt: skip
    if not remote:
        if not isinstance(error, OSError):
            return None
        if error.errno in _NETWORK_ERRNO:
            return Interruption(f"cannot be read ({_strerror(error)})", place, "run the same command again")
        return RequestError(f"cannot be read ({_strerror(error)})", place, "check the file")
    if not _is_network(error):
        return None
    reason = reason_of(error)
    if status is not None and 400 <= status < 500 and status not in _ASK_AGAIN:
        return kind(f"could not be read ({reason})", place, "check the path")
    return Interruption(f"could not be read ({reason})", place, "run the same command again", _after(error))


def _strerror(error: Exception) -> str:
    return getattr(error, "strerror", None) or reason_of(error)


def _is_network(error: Exception) -> bool:
    known = (OSError, EOFError, http.client.HTTPException)
    return isinstance(error, known) or any(
        base.__module__.partition(".")[0] in _LIBRARIES for base in type(error).__mro__
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        link = link.__cause__ or link.__context__


def _status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception of any of the libraries carries."""
    for link in _chain(error):
        if type(link).__module__ == "aiohttp.http_exceptions":
            continue  # what it calls a status of 400 is a broken answer, not a refusal
        response = getattr(link, "response", None)
        if isinstance(response, dict):  # botocore
            found: Any = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None) or getattr(link, "status", None)
        found = found or getattr(link, "code", None)  # gcsfs
        if isinstance(found, (int, str)) and str(found).isdigit() and 100 <= int(found) < 600:
            return int(found)
    return None


def _after(error: BaseException) -> float | None:
    """The seconds of a Retry-After header, if one came."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        headers = getattr(link, "headers", None) or getattr(response, "headers", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        value = (headers.get("Retry-After") or headers.get("retry-after")) if headers else None
        if value:
            try:
                return max(0.0, float(value))
            except ValueError:
                pass
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
            except ValueError:
                return None
    return None
