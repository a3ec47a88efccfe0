"""Small files are there whole or not at all, and a disk that does not take them gives one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from linnet.config import RunError
from linnet.storage import keep, write_durably


def test_a_file_and_its_name_are_synced_before_it_is_relied_upon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        sync(handle)

    def replaced(one: Path, other: Path) -> None:
        done.append(f"rename {Path(one).name}")
        replace(one, other)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_durably(tmp_path / "best.json", b"{}")
    assert done == ["sync best.json.part", "rename best.json.part", f"sync {tmp_path.name}"]
    assert (tmp_path / "best.json").read_bytes() == b"{}"


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_as_it_was(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.json"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, place, full)
        with pytest.raises(
            RunError, match=r"best.json: the best cannot be written \(No space left.*make room"
        ):
            keep(path, "after", "the best")
    assert [item.name for item in tmp_path.iterdir()] == ["best.json"]
    assert path.read_text() == "before"
