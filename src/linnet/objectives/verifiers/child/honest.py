"""Makes `==` in tests mean equality, whatever the objects that a completion returns say of themselves.

`assert f(3) == 9` is passed by a class whose `__eq__` always answers True. So a single `==` or `!=` in a
test is turned into a call of `same`, which asks an object for its opinion only when the class that holds
its `__eq__` is Python's own, or when both sides are of one class (a test of a class that the completion
was asked to write). What remains open is told in `code_tests`.
"""

from __future__ import annotations

import ast
import types
from typing import Any

PLAIN = (int, float, complex, bool, str, bytes, type(None), list, tuple, dict, set, frozenset)
TRUSTED_MODULES = frozenset(
    ("collections", "fractions", "decimal", "_pydecimal", "datetime", "_pydatetime", "numbers", "enum",
     "pathlib", "uuid", "ipaddress")
)  # fmt: skip
NAME = "__linnet_same__"


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is made of Python's own types, all the way down."""
    kind = type(value)
    if kind not in PLAIN or depth > 20:
        return False
    if kind in (list, tuple, set, frozenset):
        return all(is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(is_plain(key, depth + 1) and is_plain(item, depth + 1) for key, item in value.items())
    return True


def is_honest(value: Any, depth: int = 0) -> bool:
    """Whether the comparison of a value is Python's own; for a container, of what it holds too."""
    kind = type(value)
    if depth > 20:
        return False
    if kind in PLAIN:
        if kind in (list, tuple, set, frozenset):
            return all(is_honest(item, depth + 1) for item in value)
        if kind is dict:
            return all(is_honest(k, depth + 1) and is_honest(v, depth + 1) for k, v in value.items())
        return True
    for base in type.__dict__["__mro__"].__get__(kind):
        for name in ("__eq__", "__class__", "__getattribute__"):
            found = type.__dict__["__dict__"].__get__(base).get(name)
            if found is None or type(found) in (types.WrapperDescriptorType, types.GetSetDescriptorType):
                continue
            if (
                type(found) is not types.FunctionType
                or found.__globals__.get("__name__") not in TRUSTED_MODULES
            ):
                return False
    return True


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal; never because one of them says so of itself.

    When one side is plain (the expected value of nearly every test), the other must be honest.
    """
    if type(left) is type(right) and type(left) not in PLAIN:
        return bool(left == right)
    if is_plain(left) or is_plain(right):
        return is_honest(left) and is_honest(right) and bool(left == right)
    return bool(left == right)


class _Comparisons(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq | ast.NotEq):
            return node
        call: ast.expr = ast.Call(ast.Name(NAME, ast.Load()), [node.left, node.comparators[0]], [])
        if isinstance(node.ops[0], ast.NotEq):
            call = ast.UnaryOp(ast.Not(), call)
        return ast.copy_location(call, node)


def compiled(test: str, name: str) -> types.CodeType:
    """A test's source with every single `==` and `!=` made a call of `same`."""
    tree = _Comparisons().visit(ast.parse(test, name))
    return compile(ast.fix_missing_locations(tree), name, "exec")
