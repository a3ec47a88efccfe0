"""Documents out of buckets, through servers on loopback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import zstandard
from buckets import Bucket, amazon, google
from formats import as_lines, as_parquet

from linnet.config import RequestError

pytestmark = pytest.mark.slow

READ = """
import json, sys
from linnet.config import LinnetError, RequestError
from linnet.data.settings import Source
from linnet.data.sources.documents import documents, files_of
from linnet.data.sources.files import content_of
from linnet.data.sources.retrying import persistent

for words in sys.argv[1:]:
    asked = json.loads(words)
    file, row = asked.pop("at", (0, 0))
    source = Source.model_validate(asked)
    told, found = [], []
    try:
        files = files_of(source)
        contents = [content_of(one) for one in files]
        for document in persistent(lambda f, r: documents(source, files=files, file=f, row=r), file, row,
                                   0, told.append):
            found.append(document.text)
        print(json.dumps({"files": [[one.path, one.name, one.size] for one in files], "contents": contents,
                          "found": found}))
    except LinnetError as error:
        kind = "RequestError" if isinstance(error, RequestError) else "RunError"
        print(json.dumps({"kind": kind, "line": str(error)}))
"""

TEXTS = [f"document {i} " + "word " * 40 for i in range(90)]


CORPUS = {
    "web/a.jsonl.zst": zstandard.compress(as_lines(TEXTS[:30])),
    "web/deep/b.parquet": as_parquet(TEXTS[30:60]),
    "web/deep/c.txt.gz": gzip.compress("\n<|endoftext|>\n".join(TEXTS[60:]).encode()),
    "web/notes.pdf": b"%PDF",
    "other/d.parquet": as_parquet(["other"])[:-9],
}


@pytest.fixture(scope="module", params=[google, amazon], ids=["gs", "s3"])
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    start: Callable[[], AbstractContextManager[Bucket]] = request.param
    with start() as found:
        for name, data in CORPUS.items():
            found.put(name, data)
        yield found


def reading(bucket: Bucket, *sources: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bucket.run(READ, *map(json.dumps, sources)).splitlines()]


def test_a_bucket_is_read_as_a_folder_a_glob_and_a_file(bucket: Bucket) -> None:
    folder, slash, glob, middle, one = reading(
        bucket, {"path": f"{bucket.url}/web"}, {"path": f"{bucket.url}/web/"},
        {"path": f"{bucket.url}/web/**/*.[pt]*[qz]*"}, {"path": f"{bucket.url}/web", "at": (1, 12)},
        {"path": f"{bucket.url}/web/deep/b.parquet"},
    )  # fmt: skip
    assert folder["found"] == slash["found"] == [text.strip() for text in TEXTS]
    names = ["a.jsonl.zst", "deep/b.parquet", "deep/c.txt.gz"]
    assert folder["files"] == [
        [f"{bucket.url}/web/{name}", name, len(CORPUS[f"web/{name}"])] for name in names
    ]
    assert glob["found"] == folder["found"][30:]
    assert middle["found"] == folder["found"][42:]
    assert one["found"] == folder["found"][30:60]
    assert one["files"] == [
        [f"{bucket.url}/web/deep/b.parquet", "b.parquet", len(CORPUS["web/deep/b.parquet"])]
    ]


def test_the_content_of_an_object_changes_with_its_bytes(bucket: Bucket) -> None:
    source = {"path": f"{bucket.url}/changing.jsonl"}
    bucket.put("changing.jsonl", as_lines(["one"]))
    first, again = reading(bucket, source, source)
    bucket.put("changing.jsonl", as_lines(["two"]))
    (second,) = reading(bucket, source)
    assert first["contents"] == again["contents"] != second["contents"]
    assert (first["found"], second["found"]) == (["one"], ["two"])


def test_what_is_not_in_a_bucket_is_told_in_one_line(bucket: Bucket) -> None:
    scheme = bucket.url.partition("://")[0]
    cases = {
        f"{bucket.url}/nothing.txt": "there is no such file",
        f"{bucket.url}/nothing/*.txt": "no file matches",
        f"{scheme}://no-such-bucket-here/a.txt": "there is no such file",
        f"{scheme}://no-such-bucket-here/": "(no file matches|there is no such file)",
        f"{bucket.url}/web/notes.pdf": r"files with \.pdf are not read",
        f"{bucket.url}/other": "other/d.parquet: this is not a whole parquet file",
    }
    answers = reading(bucket, *({"path": path} for path in cases))
    for (path, message), answer in zip(cases.items(), answers, strict=True):
        assert answer["kind"] == "RequestError", answer
        with pytest.raises(RequestError, match=message):
            raise RequestError(answer["line"])
        assert answer["line"].startswith(path.rpartition("/")[0])


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    pytest.importorskip("s3fs")
    away = Bucket("s3://corpus", "http://127.0.0.1:9", {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "n0secret", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    })  # fmt: skip
    (answer,) = reading(away, {"path": "s3://corpus/web/a.jsonl.zst"})
    assert answer["kind"] == "RequestError"
    assert "s3://corpus/web/a.jsonl.zst: could not be read" in answer["line"]
    assert "n0secret" not in answer["line"]
