"""Regular expressions that cannot hang a build.

Some patterns, `(a+)+$` on a long line of a's, take longer than anyone waits, and how long depends on
the text, so no limit on lengths helps. The `regex` library takes a limit of time instead; Python's own
`re` has none. It reads the same patterns (its version 0).
"""

from __future__ import annotations

import regex

from linnet.config import RequestError

SECONDS = 5.0  # for one text; an ordinary pattern takes microseconds


def compiled(pattern: str, where: str) -> regex.Pattern[str]:
    """A pattern, ready to be searched for with a limit of time.

    Raises:
        RequestError: when it is not one.
    """
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise RequestError(f"{pattern!r} is not a regular expression ({error})", where,
                           "see Python's re module") from None  # fmt: skip


class Pattern:
    """Whether a pattern is found anywhere in a text.

    Args:
        pattern: a regular expression as for `re.search`.
        where: the place of the request, for messages.

    Raises:
        RequestError: when it is not one; when called, when it takes longer than SECONDS on one text.
    """

    def __init__(self, pattern: str, where: str = "") -> None:
        self.pattern, self.where = pattern, where
        if "\b" in pattern:
            raise RequestError(f"the pattern {pattern!r} holds a backspace", where,
                               r"write r'...' for a pattern with \b")  # fmt: skip
        self._compiled = compiled(pattern, where)

    def __call__(self, text: str) -> bool:
        """Whether the pattern is found in the text."""
        try:
            return self._compiled.search(text, timeout=SECONDS) is not None
        except TimeoutError:
            raise RequestError(
                f"the pattern {self.pattern!r} takes more than {SECONDS:g} seconds on one text of "
                f"{len(text):,} characters",
                self.where,
                "make it simpler; a repetition inside a repetition is the usual reason",
            ) from None
