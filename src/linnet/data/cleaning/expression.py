"""Which rows of a source are kept, said by an expression over their fields.

Why not Python's `eval`: a recipe is passed around, and what it says about rows must not be able to do
anything but say yes or no. The expression is parsed by Python, and only what is listed here is turned
into functions: constants, fields, comparisons, arithmetic on numbers, and, or, not, and calls of the
functions of `functions.py`. Nothing else has a meaning, so nothing else can be reached.

    language == 'en' and score >= 3 and len(text) > 200
    words(text) >= 50 and letters(text) > 0.6 and repeated_lines(text) < 0.3
    'python' in tags and metadata.lang == 'en' and not matches(text, '(?i)lorem ipsum')

None, and what cannot be computed, stays out of the way. A field may be None in some rows; so may a
division by zero, an item that a list is too short for, and any function or arithmetic of None. Comparing
None with <, <=, >, >=, in or not in is false; == and != compare it as Python does; a row for which the
whole expression is None is left out.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from linnet.config import RequestError
from linnet.data.cleaning.functions import ON_TEXT, language_identifier
from linnet.data.cleaning.operators import ARITHMETIC, COMPARISONS, SIGNS, shown
from linnet.data.cleaning.patterns import Pattern

Row = Mapping[str, Any]
_Part = Callable[[Row], Any]

LONGEST = 4_000  # characters of an expression
DEEPEST = 100  # parts within parts; more than anyone writes, and far from what Python's stack takes
FUNCTIONS = ("len", "matches", *ON_TEXT)
ROW = "row"  # what brackets are put to for a field whose name is no identifier: row['content-type']
_JSON = {"true": "True", "false": "False", "null": "None"}
_HABITS = {
    ast.Pow: "multiply instead of **",
    ast.BitAnd: "write 'and' for &",
    ast.BitOr: "write 'or' for |",
    ast.Invert: "write 'not' for ~",
    ast.Set: "write [ ... ] for { ... }",
    ast.IfExp: "write it with 'and' and 'or'",
}


class Filter:
    """A yes or no to a row.

    Args:
        expression: see the module. `text` is the document's text as it was put together from the row.
        where: the place of the expression, for messages (a recipe's key).

    Attributes:
        fields: the row's fields that the expression needs; `text` among them when it needs the text.

    Raises:
        RequestError: at once, when the expression is not one, calls what there is not, or asks for a
            library that is not installed.
    """

    def __init__(self, expression: str, where: str = "") -> None:
        self.expression, self.where = expression, where
        self._fields: set[str] = set()
        try:
            if len(expression) > LONGEST:
                raise self._error(f"the filter has more than {LONGEST:,} characters", "make it shorter")
            self._value = self._part(_parsed(expression))
        except SyntaxError as error:
            raise self._error(
                f"the filter {shown(expression)} cannot be read ({error.msg})", _spelling(expression)
            ) from None
        except (RecursionError, MemoryError):
            raise self._error("the filter is nested too deep", "make it simpler") from None
        self.fields = frozenset(self._fields)

    def __call__(self, row: Row) -> bool:
        """Whether the row is kept.

        Raises:
            RequestError: when the row lacks a field, or holds something that cannot be compared so.
        """
        return bool(self._value(row))

    def __reduce__(self) -> tuple[type[Filter], tuple[str, str]]:
        return Filter, (self.expression, self.where)

    def __repr__(self) -> str:
        return f"Filter({self.expression!r})"

    def _error(self, what: str, mend: str) -> RequestError:
        return RequestError(what, self.where, mend)

    def _part(self, node: ast.AST) -> _Part:
        """The function of a row that a part of the expression stands for."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda row: value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                parts = [self._part(item) for item in items]
                together = list if isinstance(node, ast.List) else tuple
                return lambda row: together([part(row) for part in parts])
            case ast.BoolOp(op=op, values=values):
                return _joined([self._part(value) for value in values], stop=isinstance(op, ast.Or))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self._part(operand)
                return lambda row: not part(row)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in SIGNS:
                return self._applied(node, SIGNS[type(op)], [self._part(operand)])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return self._applied(node, ARITHMETIC[type(op)], [self._part(left), self._part(right)])
            case ast.Compare():
                return self._compared(node)
            case ast.Call():
                return self._called(node)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._path(node)
        inner = getattr(node, "op", node)
        raise self._error(f"a filter cannot hold {shown(node)}",
                          _HABITS.get(type(inner), f"it may use fields, constants, comparisons, + - * / // %, and, "
                                      f"or, not, and {', '.join(FUNCTIONS)}"))  # fmt: skip

    def _applied(self, node: ast.AST, apply: Callable[..., Any], parts: list[_Part]) -> _Part:
        """A function of the parts' values, which tells of values that it does not take."""

        def value(row: Row) -> Any:
            values = [part(row) for part in parts]
            try:
                return apply(*values)
            except (TypeError, OverflowError):
                found = " and ".join(shown(value) for value in values)
                raise self._error(f"{shown(node)} cannot be worked out for {found}",
                                  "compare numbers with numbers and text with text") from None  # fmt: skip

        return value

    def _compared(self, node: ast.Compare) -> _Part:
        """A comparison, or several in a row: 1 < a <= 3."""
        operands = [node.left, *node.comparators]
        parts = [self._part(operand) for operand in operands]
        links = []
        for index, op in enumerate(node.ops):
            if isinstance(op, (ast.Is, ast.IsNot)) and not _is_none(operands[index + 1]):
                raise self._error(f"a filter cannot hold {shown(node)}", "write == to compare values")
            pair = ast.Compare(left=operands[index], ops=[op], comparators=[operands[index + 1]])
            apply, right = COMPARISONS[type(op)], parts[index + 1]
            links.append(self._applied(pair, apply, [parts[index], right]))
        return links[0] if len(links) == 1 else _joined(links, stop=False)

    def _called(self, node: ast.Call) -> _Part:
        """A call of one of FUNCTIONS; None when the first argument is."""
        if isinstance(node.func, ast.Attribute):
            name = node.func.attr
            mend = f"write {name}(...)" if name in FUNCTIONS else f"there are {', '.join(FUNCTIONS)}"
            raise self._error(f"a filter cannot call {shown(node.func)}", mend)
        name = node.func.id if isinstance(node.func, ast.Name) else shown(node.func)
        if name not in FUNCTIONS:
            close = difflib.get_close_matches(name, FUNCTIONS, n=1)
            mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(FUNCTIONS)}"
            raise self._error(f"a filter has no function {name!r}", mend)
        wanted = 2 if name == "matches" else 1
        if node.keywords or len(node.args) != wanted:
            form = "matches(text, 'PATTERN')" if wanted == 2 else f"{name}(text)"
            raise self._error(f"{shown(node)} is not how {name} is called", f"write {form}")
        if name == "language":
            self._need(language_identifier)
        apply = self._function(name, node)
        return self._applied(
            node, lambda value: None if value is None else apply(value), [self._part(node.args[0])]
        )

    def _function(self, name: str, node: ast.Call) -> Callable[[Any], Any]:
        if name == "len":
            return len
        if name == "matches":
            match node.args[1]:
                case ast.Constant(value=str() as pattern):
                    return Pattern(pattern, self.where)
            raise self._error(f"the pattern of {shown(node)} is not a constant", "write it in quotes")
        on_text = ON_TEXT[name]

        def of_text(value: Any) -> Any:
            if not isinstance(value, str):
                raise TypeError
            return on_text(value)

        return of_text

    def _need(self, of: Callable[[], Any]) -> None:
        try:
            of()
        except RequestError as error:
            raise self._error(error.what, error.mend) from None

    def _path(self, node: ast.AST) -> _Part:
        """A field, or what lies in it: score, metadata.lang, metadata['lang'], tags[0], row['content-type']."""
        match node:
            case ast.Name(id=name) if name != ROW:
                return self._field(name)
            case ast.Attribute(value=ast.Name(id="row"), attr=key):
                return self._field(key)
            case ast.Subscript(value=ast.Name(id="row"), slice=ast.Constant(value=str() as key)):
                return self._field(key)
            case ast.Attribute(value=ast.Name() | ast.Attribute() | ast.Subscript() as of, attr=key) if (
                not key.startswith("__")
            ):
                return self._item(node, self._path(of), key)
            case ast.Subscript(value=ast.Name() | ast.Attribute() | ast.Subscript() as of, slice=index):
                if (place := _key(index)) is not None:
                    return self._item(node, self._path(of), place)
        raise self._error(f"a filter cannot hold {shown(node)}",
                          "name a field, or what lies in it: metadata.lang, tags[0], row['content-type']")  # fmt: skip

    def _field(self, name: str) -> _Part:
        self._fields.add(name)

        def value(row: Row) -> Any:
            try:
                return row[name]
            except KeyError:
                raise self._missing(name, row, "the row") from None

        return value

    def _item(self, node: ast.AST, of: _Part, key: str | int) -> _Part:
        """What lies in a field; None in None, and None where a list is too short."""

        def value(row: Row) -> Any:
            outer = of(row)
            if outer is None:
                return None
            if isinstance(key, str) and isinstance(outer, Mapping):
                if key not in outer:
                    raise self._missing(key, outer, shown(node.value))  # type: ignore[attr-defined]
                return outer[key]
            if isinstance(key, int) and isinstance(outer, (str, list, tuple)):
                return outer[key] if -len(outer) <= key < len(outer) else None
            raise self._error(f"{shown(node)} is not to be found in {shown(outer)}", "check the field")

        return value

    def _missing(self, name: str, among: Row, of: str) -> RequestError:
        close = difflib.get_close_matches(name, [str(key) for key in among], n=1)
        mend = f"did you mean {close[0]}? " if close else "a text stands in quotes; "
        if name in _JSON:
            mend = f"write {_JSON[name]}; "
        has = ", ".join(map(repr, among)) or "none"
        return self._error(
            f"the filter needs a field {name!r}, which {of} has not", f"{mend}its fields are {has}"
        )


def _parsed(expression: str) -> ast.expr:
    """What Python's grammar makes of an expression.

    Raises:
        SyntaxError: when it is none.
        RecursionError: when it is nested deeper than DEEPEST.
    """
    with (
        warnings.catch_warnings()
    ):  # of '\\d' in quotes, which a pattern is likely to hold and which is right
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(expression.strip(), mode="eval").body
        except ValueError as error:  # a null byte, to Python 3.11
            raise SyntaxError(str(error)) from None
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
    if level:
        raise RecursionError
    return tree


def _joined(parts: list[_Part], stop: bool) -> _Part:
    """`and` (stops at the first false) or `or` (stops at the first true); as in Python, the last value looked at."""
    *first, last = parts

    def value(row: Row) -> Any:
        for part in first:
            found = part(row)
            if bool(found) is stop:
                return found
        return last(row)

    return value


def _key(node: ast.AST) -> str | int | None:
    """What stands in brackets, if it is a text or a whole number."""
    try:
        key = ast.literal_eval(node)  # type: ignore[arg-type]
    except ValueError:
        return None
    return key if isinstance(key, (str, int)) and not isinstance(key, bool) else None


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _spelling(expression: str) -> str:
    """What was probably meant by an expression that Python cannot read."""
    for wrong, mend in (("&&", "write 'and'"), ("||", "write 'or'"), ("!", "write 'not', or != to compare")):
        if wrong in expression.replace("!=", ""):
            return mend
    if "=" in expression and not any(op in expression for op in ("==", "<=", ">=", "!=")):
        return "write == to compare"
    return "for example: language == 'en' and len(text) > 200"
