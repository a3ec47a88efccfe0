"""Unicode normal form and length limits, so that one text is spelled one way and slivers stay out.

The normal form comes first: lengths are counted in the characters that will be tokenised, and two
spellings of one text become one before duplicates are looked for.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

from linnet.data.settings import Cleaning

Reason = Literal["", "too_short", "too_long"]
_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}


class Cleaner:
    """Puts texts into a Unicode normal form and leaves out those of the wrong length.

    Args:
        settings: `normalize`, `min_characters` and `max_characters`; both limits are allowed lengths.

    Attributes:
        reason: why the last text was left out; empty when it was not.
    """

    def __init__(self, settings: Cleaning) -> None:
        self._form = _FORMS.get(settings.normalize)
        self._least, self._most = settings.min_characters, settings.max_characters
        self.reason: Reason = ""

    def __call__(self, text: str) -> str | None:
        """The text in its normal form, or None when it is left out."""
        if self._form and not text.isascii():  # ASCII is in every normal form
            text = unicodedata.normalize(self._form, text)
        length = len(text)
        if length < self._least:
            self.reason = "too_short"
        elif self._most is not None and length > self._most:
            self.reason = "too_long"
        else:
            self.reason = ""
        return None if self.reason else text
