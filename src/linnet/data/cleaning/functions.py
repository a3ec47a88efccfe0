"""The functions that a filter may call on a text.

All of them but `language` are cheap enough to run on every document, and none gives an error on any
text: a share of an empty text is 0. They are the measures that published corpora were filtered by;
`repeated_lines` is Gopher's duplicate line fraction (Rae et al. 2021, appendix A1.1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from linnet.config import RequestError
from linnet.data.cleaning.characters import DIGIT, LETTER, STANDALONE, SYMBOL, shares

# The identifier takes 0.3 ms for these; of 1,527 web pages, ten times as many found as many in each language.
LANGUAGE_CHARACTERS = 1_000


def lower(text: str) -> str:
    """The text in lower case."""
    return text.lower()


def words(text: str) -> int:
    """How many words there are between white space."""
    return len(text.split())


def lines(text: str) -> int:
    """How many lines there are; a line feed at the end opens none."""
    return text.count("\n") + (text[-1:] not in ("", "\n"))


def letters(text: str) -> float:
    """The share of characters that are letters, of any script, or marks on them."""
    found = shares(text)
    return found[LETTER] + found[STANDALONE]


def digits(text: str) -> float:
    """The share of characters that are digits or other numbers."""
    return shares(text)[DIGIT]


def symbols(text: str) -> float:
    """The share of characters that are neither letters, digits nor white space."""
    return shares(text)[SYMBOL]


def ascii_share(text: str) -> float:
    """The share of characters that are ASCII."""
    if text.isascii():
        return 1.0 if text else 0.0
    return len(text.encode("ascii", "ignore")) / len(text)


def repeated_lines(text: str) -> float:
    """The share of lines that came before in the text; blank lines and outer white space do not count."""
    found = [line for line in map(str.strip, text.split("\n")) if line]
    return 1 - len(set(found)) / len(found) if found else 0.0


def language(text: str) -> str:
    """The code (ISO 639, two letters for most) of the language that the text's beginning is most likely in.

    A text without letters is in no language: `und`, undetermined.

    Raises:
        RequestError: when the language identifier is not installed.
    """
    beginning = text[:LANGUAGE_CHARACTERS]
    return language_identifier()(beginning)[0] if letters(beginning) else "und"


@functools.cache
def language_identifier() -> Callable[[str], tuple[str, float]]:
    """What tells a text's language; read from the package's own folder, never from the network.

    Raises:
        RequestError: when it is not installed.
    """
    try:
        from py3langid.langid import classify
    except ImportError:
        raise RequestError("language(text) needs py3langid", "", "pip install 'linnet[data]'") from None
    identify: Callable[[str], tuple[str, float]] = classify
    return identify


ON_TEXT: dict[str, Callable[[str], Any]] = {
    "lower": lower,
    "words": words,
    "lines": lines,
    "letters": letters,
    "digits": digits,
    "symbols": symbols,
    "ascii": ascii_share,
    "repeated_lines": repeated_lines,
    "language": language,
}
