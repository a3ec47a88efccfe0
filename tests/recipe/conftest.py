"""These models are so small that a second thread costs more than it brings; a picture of each run too."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import linnet.recipe  # noqa: F401
import tiny


@pytest.fixture(autouse=True)
def small_and_plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        sys.modules["linnet.recipe.live"], "draw", lambda events, picture, stage=None: picture
    )
    with tiny.one_thread():
        yield
