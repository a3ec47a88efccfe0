from __future__ import annotations

import math
import pickle
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from linnet.config import RequestError
from linnet.data.cleaning import Cleaner, Filter
from linnet.data.cleaning import functions as functions_module
from linnet.data.cleaning import patterns as patterns_module
from linnet.data.cleaning.functions import ON_TEXT, language_identifier
from linnet.data.settings import Cleaning

ROW: dict[str, Any] = {
    "text": "Snow fell.\nThe fox ran 12 miles.",
    "language": "en",
    "score": 3,
    "nothing": None,
    "tags": ["python", "c"],
    "metadata": {"lang": "en", "origin": {"site": "a.example"}, "empty": None},
    "content-type": "text/plain",
}


def keeps(expression: str, **fields: Any) -> bool:
    return Filter(expression)({**ROW, **fields})


def refusal(expression: str, where: str = "data.sources.0.filter") -> str:
    with pytest.raises(RequestError) as error:
        Filter(expression, where)(ROW)
    line = str(error.value)
    assert line.startswith(where)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    "expression",
    [
        "language == 'en' and score >= 3 and len(text) > 20",
        "words(text) >= 6 and letters(text) > 0.6",
        "'python' in tags and 'java' not in tags",
        "metadata.lang == 'en' and metadata['origin'].site == 'a.example'",
        "metadata.origin['site'] == 'a.example'",
        "row['content-type'] == 'text/plain' and row.score == 3",
        "tags[0] == 'python' and tags[-1] == 'c' and len(tags) == 2",
        "1 < score <= 3 < 4",
        "-score + 2 * 3 - 1 == 2 and score / 2 == 1.5 and score // 2 == score % 2",
        "language in ('en', 'de') and language in ['en']",
        "matches(text, 'fox\\s+ran') and not matches(text, r'\\bcat\\b')",
        "lower(text) != text and 'the fox' in lower(text)",
        "score",
        "nothing or score",
        "nothing is None and score is not None and nothing == None",
    ],
)
def test_a_row_is_kept_when_the_expression_is_true_of_it(expression: str) -> None:
    assert keeps(expression)
    assert not keeps(f"not ({expression})")


def test_a_filter_knows_which_fields_it_needs() -> None:
    found = Filter("metadata.lang == 'en' and row['content-type'] and tags[0] and len(text) > score").fields
    assert found == {"metadata", "content-type", "tags", "text", "score"}
    assert Filter("1 < 2").fields == frozenset()


def test_a_filter_goes_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(Filter("score >= 3", "here")))
    assert (again(ROW), again.expression, again.where) == (True, "score >= 3", "here")


@pytest.mark.parametrize(
    "expression",
    [
        "nothing < 3", "nothing >= 3", "3 > nothing", "1 < nothing < 3", "'a' in nothing", "'a' not in nothing",
        "nothing in 'text'", "nothing not in 'text'", "len(nothing) > 0", "words(nothing) < 5",
        "matches(nothing, '.')", "nothing + 1 > 0", "-nothing < 1", "nothing * nothing >= 0", "nothing",
        "nothing.deep.inside == 1", "metadata.empty[0] == 'x'", "tags[2] == 'x'", "tags[-3] == 'x'",
        "score / 0 > 0", "score % 0 <= 0", "score // 0.0 < 1",
    ],
)  # fmt: skip
def test_none_and_what_cannot_be_computed_are_false(expression: str) -> None:
    assert keeps(expression) is False


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("__import__('os')", "no function '__import__'"),
        ("().__class__", "cannot hold ().__class__"),
        ("text.__class__", "cannot hold text.__class__"),
        ("(lambda: 1)()", "no function"),
        ("lambda: 1", "cannot hold lambda"),
        ("[x for x in tags]", "cannot hold [x for x in tags]"),
        ("f'{text}'", "cannot hold f'{text}'"),
        ("(x := 3)", "cannot hold"),
        ("{'a': 1}", "cannot hold {'a': 1}"),
        ("b'x' == text", "cannot hold b'x'"),
        ("[*tags]", "cannot hold *tags"),
        ("9**9**9 > 1", "multiply instead of **"),
        ("1 << 9999999999", "cannot hold 1 << 9999999999"),
        ("'a' * 1000000000", "cannot be worked out for 'a' and 1000000000"),
        ("tags * 1000000000", "cannot be worked out"),
        ("row", "cannot hold row"),
        ("row == 1", "cannot hold row"),
        ("tags[text]", "cannot hold tags[text]"),
        ("tags[0:1000]", "cannot hold tags[0:1000]"),
        ("len(text, text)", "write len(text)"),
        ("len(*tags)", "cannot hold *tags"),
        ("words(text=text)", "write words(text)"),
        ("matches(text, language)", "write it in quotes"),
        ("matches(text, '(')", "not a regular expression"),
        (r"matches(text, '\bfox\b')", "write r'...'"),
        ("wrds(text) > 3", "did you mean words?"),
        ("text.lower() == 'a'", "write lower(...)"),
        ("eval('1')", "no function 'eval'"),
        ("score = 3", "write == to compare"),
        ("score > 1 && score < 3", "write 'and'"),
        ("!score", "write 'not'"),
        ("score & 1", "write 'and' for &"),
        ("score if score else 1", "write it with 'and' and 'or'"),
        ("language in {'en', 'de'}", "write [ ... ]"),
        ("score is 3", "write == to compare values"),
        ("len(text", "cannot be read"),
        ("", "cannot be read"),
        ("a\0b", "cannot be read"),
        ("yield", "cannot be read"),
        ("not " * 900 + "score", "nested too deep"),
        ("-" * 3999 + "1", "nested too deep"),
        ("+".join("1" * 1000), "nested too deep"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read"),
        ("1" * 5000, "more than 4,000 characters"),
        ("score < text", "cannot be worked out for 3 and 'Snow fell"),
        ("text + 1 > 3", "cannot be worked out"),
        ("score in score", "cannot be worked out"),
        ("words(score) > 1", "words(score) cannot be worked out for 3"),
        ("len(score) > 1", "len(score) cannot be worked out for 3"),
        ("metadata[0] == 1", "is not to be found in"),
        ("score.real == 3", "score.real is not to be found in 3"),
        ("langage == 'en'", "did you mean language?"),
        ("metadata.lan == 'en'", "did you mean lang? its fields are 'lang', 'origin', 'empty'"),
        ("language == en", "a text stands in quotes; its fields are 'text', 'language', 'score'"),
        ("flag == true", "which the row has not"),
        ("score == true", "write True"),
    ],
)  # fmt: skip
def test_what_a_filter_cannot_hold_is_refused_in_one_line(expression: str, told: str) -> None:
    assert told in refusal(expression)


def test_most_mistakes_are_told_before_a_row_is_read() -> None:
    for expression in ("9**9", "wrds(text)", "matches(text, '(')", "a = 1"):
        with pytest.raises(RequestError):
            Filter(expression)


def test_a_huge_number_in_a_row_is_refused_not_spelled_out() -> None:
    with pytest.raises(RequestError, match="a very large number"):
        keeps("score / 3 > text", score=10**5000)


def test_a_pattern_in_quotes_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keeps(r"matches(text, '\d+ miles')")


def test_a_pattern_that_backtracks_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns_module, "SECONDS", 0.1)
    start = time.monotonic()
    with pytest.raises(RequestError, match=r"takes more than 0\.1 seconds on one text of 61 characters"):
        keeps("matches(text, '(a|aa)+$')", text="a" * 60 + "b")
    assert time.monotonic() - start < 5


# Expressions of the allowed subset, in which values of one kind meet only their own kind.
NUMBERS = st.sampled_from(
    ["a", "b", "0", "1", "2.5", "-3", "len(t)", "words(t)", "len(l)", "m.deep", "l[0]", "m['deep']"]
)
TEXTS = st.sampled_from(["t", "'a b'", "''", "lower(t)", "'A'", "m.name", "t[0]"])


def _numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
        lambda p: f"({p[0]} {p[1]} {p[2]})"
    )
    return pairs | inner.map(lambda x: f"(-{x})")


ARITHMETIC = st.recursive(NUMBERS, _numbers, max_leaves=4)
ORDER = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
MEMBERSHIP = st.sampled_from(["in", "not in"])
COMPARISON = (
    st.tuples(ARITHMETIC, ORDER, ARITHMETIC).map(" ".join)
    | st.tuples(ARITHMETIC, ORDER, ARITHMETIC, ORDER, ARITHMETIC).map(" ".join)
    | st.tuples(TEXTS, ORDER | MEMBERSHIP, TEXTS).map(" ".join)
    | st.tuples(ARITHMETIC, MEMBERSHIP, st.sampled_from(["l", "[1, a]", "(b, 2)", "()"])).map(" ".join)
)  # fmt: skip


def _logic(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return pairs | inner.map(lambda x: f"(not {x})")


class Nested(dict):  # type: ignore[type-arg]
    __getattr__ = dict.__getitem__


@given(
    expression=st.recursive(COMPARISON.map(lambda x: f"({x})") | ARITHMETIC, _logic, max_leaves=6),
    a=st.integers(-4, 4),
    b=st.floats(-3, 3) | st.booleans() | st.just(math.inf),
    text=st.text("aAb \n", min_size=1, max_size=6),
    numbers=st.lists(st.integers(-2, 3), min_size=1, max_size=3),
)
def test_a_filter_agrees_with_python(
    expression: str, a: int, b: float, text: str, numbers: list[int]
) -> None:
    row = {"a": a, "b": b, "t": text, "l": numbers, "m": Nested(deep=2, name="b")}
    called = {"len": len, "lower": str.lower, "words": lambda t: len(t.split()), "__builtins__": {}}
    try:
        expected = bool(eval(expression, {**called, **row}))
    except ZeroDivisionError:
        assume(False)
    assert Filter(expression)(row) is expected


def _categories(text: str) -> Iterator[str]:
    for character in text:
        yield " " if character.isspace() else unicodedata.category(character)[0]


@given(st.text(max_size=60) | st.text("aé9 .\n\u0301中ก½\u3000", max_size=30))
def test_shares_of_characters_are_as_the_unicode_database_has_them(text: str) -> None:
    kinds, size = list(_categories(text)), max(1, len(text))
    assert ON_TEXT["letters"](text) == pytest.approx(sum(kind in "LM" for kind in kinds) / size)
    assert ON_TEXT["digits"](text) == pytest.approx(sum(kind == "N" for kind in kinds) / size)
    assert ON_TEXT["symbols"](text) == pytest.approx(sum(kind in "PSC" for kind in kinds) / size)
    assert ON_TEXT["ascii"](text) == pytest.approx(sum(ord(character) < 128 for character in text) / size)


def test_shares_of_a_long_text_are_those_of_its_parts() -> None:
    text = "ab1. " * 300_000 + "é"
    assert ON_TEXT["letters"](text) == pytest.approx(600_001 / 1_500_001)
    assert ON_TEXT["symbols"](text) == pytest.approx(300_000 / 1_500_001)


@pytest.mark.parametrize(
    ("text", "lines", "repeated"),
    [
        ("", 0, 0.0),
        ("\n\n", 2, 0.0),
        ("one", 1, 0.0),
        ("one\n", 1, 0.0),
        ("one\ntwo", 2, 0.0),
        ("one\ntwo\none\n one \n\n", 5, 0.5),
        ("a\na\na\na", 4, 0.75),
    ],
)
def test_lines_and_repeated_lines(text: str, lines: int, repeated: float) -> None:
    assert ON_TEXT["lines"](text) == lines
    assert ON_TEXT["repeated_lines"](text) == pytest.approx(repeated)


def test_words_are_parted_by_white_space() -> None:
    assert ON_TEXT["words"](" it's  one-off\nthing ") == 3
    assert ON_TEXT["lower"]("ÄB") == "äb"


def test_language_is_told_offline() -> None:
    pytest.importorskip("py3langid")
    assert keeps(
        "language(text) == 'en'", text="The weather was fine and we walked along the river to the old mill."
    )
    assert keeps(
        "language(text) == 'de'", text="Das Wetter war schön, und wir gingen am Fluss entlang zur Mühle."
    )
    assert keeps(
        "language(text) == 'ru'", text="Погода была хорошая, и мы пошли вдоль реки к старой мельнице."
    )
    assert keeps("language(text) == 'und'", text="12 + 12 = 24")


def test_language_without_its_library_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    language_identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(
        RequestError, match=r"here: language\(text\) needs py3langid; pip install 'linnet\[data\]'"
    ):
        Filter("language(text) == 'en'", "here")
    assert keeps("language == 'en'")  # the field, not the function
    language_identifier.cache_clear()


def test_language_looks_at_the_beginning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def identify(text: str) -> tuple[str, float]:
        seen.append(len(text))
        return "en", 0.0

    monkeypatch.setattr(functions_module, "language_identifier", lambda: identify)
    assert functions_module.language("word " * 10_000) == "en"
    assert seen == [functions_module.LANGUAGE_CHARACTERS]


def test_a_cleaner_that_is_asked_for_nothing_changes_nothing() -> None:
    cleaner = Cleaner(Cleaning())
    for text in ("", "e\u0301 ﬁ", "x" * 100_000):
        assert cleaner(text) is text
        assert cleaner.reason == ""


@given(st.text("ae\u0301\u0308ﬁ①Å가\u1112\u1161ｱ ", max_size=12))
def test_a_cleaner_puts_text_into_the_normal_form(text: str) -> None:
    for form in ("nfc", "nfkc"):
        assert Cleaner(Cleaning(normalize=form))(text) == unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]


def test_a_cleaner_says_why_a_text_is_left_out() -> None:
    cleaner = Cleaner(Cleaning(min_characters=2, max_characters=4))
    seen = [(cleaner(text), cleaner.reason) for text in ("a", "ab", "abcd", "abcde", "abc")]
    assert seen == [(None, "too_short"), ("ab", ""), ("abcd", ""), (None, "too_long"), ("abc", "")]


def test_lengths_count_the_characters_of_the_normal_form() -> None:
    text = "e\u0301" * 3  # 6 characters that become 3
    assert Cleaner(Cleaning(max_characters=3))(text) is None
    assert Cleaner(Cleaning(max_characters=3, normalize="nfc"))(text) == "ééé"
    assert Cleaner(Cleaning(min_characters=4, normalize="nfc"))(text) is None
