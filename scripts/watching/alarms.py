"""What an alert compares, without the comparison: that must have data in good health too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import promql_parser as promql

_SETS: Final = {"and", "or", "unless"}
_COMPARED: Final = {"==", "!=", ">", "<", ">=", "<="}
_ABSENT: Final = {"absent", "absent_over_time"}


def compared(expr: str) -> tuple[str, ...]:
    """The parts of `expr` that have to return something for it to be able to fire.

    `a > 1 and b / c < 2` gives `a` and `b / c`; `absent(a == 1)`, `sum(a > 0)` and `a unless b`
    give `a`. What is compared with nothing is given as it is. Raises `ValueError` for what is no
    query.
    """
    return tuple(dict.fromkeys(_parts(promql.parse(expr))))


def _parts(node: Any) -> Iterator[str]:
    match node:
        case promql.ParenExpr():
            yield from _parts(node.expr)
        case promql.BinaryExpr() if str(node.op) in _SETS | _COMPARED:
            sides = (node.lhs,) if str(node.op) == "unless" else (node.lhs, node.rhs)
            for side in sides:
                if not isinstance(_bare(side), promql.NumberLiteral):
                    yield from _parts(side)
        case promql.AggregateExpr() if _decides(node.expr):
            yield from _parts(node.expr)
        case promql.Call() if node.func.name in _ABSENT or any(map(_decides, node.args)):
            for argument in node.args:
                yield from _parts(argument)
        case promql.MatrixSelector():
            yield str(node.vector_selector)
        case _:
            yield str(node)


def _decides(node: Any) -> bool:
    """Whether it is a comparison, or a choice between several."""
    bare = _bare(node)
    return isinstance(bare, promql.BinaryExpr) and str(bare.op) in _SETS | _COMPARED


def _bare(node: Any) -> Any:
    while isinstance(node, promql.ParenExpr):
        node = node.expr
    return node
