"""Documents as the files they come in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any


def fineweb_card(*samples: str) -> bytes:
    """HuggingFaceFW/fineweb-edu's README: configurations whose samples lie beside the dumps."""
    places = {"default": "data/*/*", **{f"sample-{size}": f"sample/{size}/*" for size in samples}}
    parts = (
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {path}\n"
        for name, path in places.items()
    )
    return f"---\nlicense: odc-by\nconfigs:\n{''.join(parts)}---\n# A dataset\n".encode()


def as_lines(documents: Sequence[str], field: str = "text", **more: object) -> bytes:
    """One JSON object a line."""
    return b"".join(json.dumps({**more, field: text}).encode() + b"\n" for text in documents)


def as_parquet(documents: Sequence[Any], group: int = 10, **columns: list) -> bytes:
    """A column of text, and others, in row groups of `group`."""
    import pyarrow
    import pyarrow.parquet

    page = io.BytesIO()
    table = pyarrow.table({"text": list(documents), **columns})
    pyarrow.parquet.write_table(table, page, row_group_size=group)
    return page.getvalue()
