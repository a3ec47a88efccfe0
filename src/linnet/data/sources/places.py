"""Files behind a URL: found and opened through fsspec, whatever the place.

Why this exists: fsspec gives every place the same calls but not the same answers. What a listing
says of a file, what tells that its bytes changed, and which library is missing differ; here they
become one `Found` a file, and one line when there is none.

Credentials are never asked for: each library finds its own (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS,
`hf auth login`, FSSPEC_* …).
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, BinaryIO, NamedTuple

import fsspec

from linnet.config import LinnetError, RequestError
from linnet.data.sources.troubles import shown, trouble_with

READ_AHEAD = 8 << 20  # bytes asked for at once; smaller requests are ruled by the time that each takes
_EXTRAS = {
    "s3": "buckets",
    "s3a": "buckets",
    "gs": "buckets",
    "gcs": "buckets",
    "http": "data",
    "https": "data",
}
MAGIC = re.compile(r"[*?\[]")
_WEB_MAGIC = re.compile(r"[*\[]")  # a question mark begins a query there
_VERSIONS = (
    "generation", "ETag", "etag", "md5Hash", "xet_hash", "blob_id", "Content-MD5", "LastModified",
    "last_modified", "mtime", "created",
)  # fmt: skip


class Found(NamedTuple):
    """A file of a listing: where it is opened, its name below the place asked for, and what is known of it."""

    path: str
    name: str
    size: int | None
    version: str


def is_remote(word: str) -> bool:
    """Whether a path is a URL. `file://` is a way to write a local path."""
    return "://" in word and not word.startswith("file://")


def listing(url: str) -> list[Found]:
    """The files of a URL: of one file, of a folder with all below it, or of a glob.

    Raises:
        RequestError: when the place is not there, refuses, is not known, or does not answer.
    """
    place = shown(url)
    if "::" in url:
        raise RequestError("URLs within URLs are not read", place, "give the file as it is")
    scheme = url.partition("://")[0].lower()
    try:
        fs, _ = _filesystem(url)
        if scheme == "hf":
            from linnet.data.sources.hub import pinned

            url, root = pinned(url)
        else:
            root = _root(url)
        path = fs._strip_protocol(url)
        if _magic(scheme).search(path):
            infos = fs.glob(path, detail=True)
        elif url.endswith("/") or (info := fs.info(path))["type"] == "directory":
            infos = fs.find(path, detail=True)
        else:
            if scheme != "hf":
                root = posixpath.dirname(bare(url))
            infos = {path: info}
        found = [_found(fs, root, url, name, info) for name, info in infos.items() if info["type"] == "file"]
    except LinnetError:
        raise
    except Exception as error:
        raise _unreachable(error, scheme, place) from None
    return found


def opened(path: str, size: int | None) -> BinaryIO:
    """A file behind a URL, open for reading; seekable where the place is. Raises what its library raises."""
    fs, inner = _filesystem(path)
    known = {"size": size} if size is not None and path.startswith("hf://") else {}  # spares it a request
    return fs.open(inner, "rb", block_size=READ_AHEAD, cache_type="readahead", **known)


def _filesystem(url: str) -> tuple[Any, str]:
    return fsspec.core.url_to_fs(url)


def _magic(scheme: str) -> re.Pattern[str]:
    return _WEB_MAGIC if scheme in ("http", "https") else MAGIC


def bare(url: str) -> str:
    """A URL without its query."""
    return url.partition("?")[0] if url.startswith(("http://", "https://")) else url


def _root(url: str) -> str:
    """The folder that names are told from: the URL itself, or what comes before a glob's first sign."""
    place = bare(url)
    sign = _magic(url.partition("://")[0]).search(place)
    return (place[: sign.start()].rpartition("/")[0] if sign else place).rstrip("/")


def _found(fs: Any, root: str, url: str, inner: str, info: dict[str, Any]) -> Found:
    inside = fs._strip_protocol(root)
    name = bare(inner).removeprefix(inside).lstrip("/")
    single = bare(url) == f"{root}/{name}"
    path = url if single else f"{root}/{name}"
    if url.startswith(("http://", "https://")) and len(info) < 4:
        info = fs.info(path)  # a page of links says nothing of what they lead to
    lfs = info.get("lfs")
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    version = sha256 or next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
    return Found(path, name, info.get("size"), version.strip('"'))


def _unreachable(error: Exception, scheme: str, place: str) -> LinnetError:
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(scheme)
        mend = f"pip install 'linnet[{extra}]'" if extra else f"install what fsspec needs for it ({error})"
        return RequestError(f"reading {scheme}:// needs a library that is not installed", place, mend)
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return RequestError(f"there is no way to read {scheme}://", place,
                            "give a path, or a URL with s3://, gs://, hf:// or https://")  # fmt: skip
    met = trouble_with(error, place, remote=True, begun=False)
    if met is None:
        if not isinstance(error, (ValueError, NotImplementedError)):
            raise error
        return RequestError(f"this URL cannot be read ({error})", place, "check how it is written")
    return RequestError(
        met.what, met.where, met.mend if isinstance(met, RequestError) else "check the network"
    )
