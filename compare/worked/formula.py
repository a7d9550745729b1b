"""An expression in a sheet's names, as "-(y1 - a4) * a4 * (1 - a4)": read, and evaluated exactly.

Numbers, names, places, + - * / **, parentheses, and exp, log, sqrt, sigmoid and tanh; and two or
more of such, compared with < <= > >= ==. Nothing else.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, DecimalException

from compare.worked.decimals import FUNCTIONS
from compare.worked.errors import Problem, nearest, shown
from compare.worked.places import Place, place

LONGEST = 2_000  # characters
DEEPEST = 40  # levels of operators
MOST_TERMS = 2_000  # with those of the names in it, each as often as it is used
LARGEST_POWER = 1_000  # no exponent is larger
NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?(?![\w.])")
ROW = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*(?:\s*\[[0-9,\s]*\])?")
OPERATOR = re.compile(r"\*\*|<=|>=|==|[-+*/()<>]")
WORD = re.compile(r"\w+")
# As they are typed on paper.
TYPED = str.maketrans({"−": "-", "·": "*", "×": "*", "≤": "<=", "≥": ">="})
OPERATIONS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: _power(a, b),
}
COMPARISONS = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.Eq: lambda a, b: a == b,
}


@dataclass(frozen=True)
class Formula:
    """text: as on the sheet. terms: what _0, _1, … in the tree stand for. compares: whether it is
    a comparison, which is 1 where it holds. size: its terms, with those of the names in it."""

    text: str
    terms: tuple[Place | Decimal, ...]
    compares: bool
    tree: ast.expr
    size: int

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def places(self) -> list[Place]:
        return [term for term in self.terms if isinstance(term, Place)]

    def value(self, of: Callable[[Place], Decimal]) -> Decimal:
        """Its value, where of(place) is that of a place; in the decimal context in force. Raises
        `Problem` where there is none: a division by 0, a number that is too large."""
        terms = [of(term) if isinstance(term, Place) else term for term in self.terms]
        try:
            return _evaluate(self.tree, terms)
        except (DecimalException, ArithmeticError) as error:
            reason = "a division by 0, a number too large, or no real number"
            raise Problem(f"'{shown(self.text)}' has no value: {reason}") from error


def formula(text: str, names: Mapping[str, Place], shapes: Mapping[str, tuple]) -> Formula:
    """Read an expression. names: the sheet's own; shapes: row → shape. Raises `Problem`."""
    if len(text) > LONGEST:
        raise Problem(f"expected at most {LONGEST} characters, got {len(text)}")
    source, terms = _tokens(text, names, shapes)
    wrong = Problem(f"expected an expression, as '(a - y) * x1', got '{shown(text)}'")
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        raise wrong from None
    if _depth(tree) > DEEPEST:
        raise Problem(f"expected at most {DEEPEST} levels of operators, got '{shown(text)}'")
    compares = isinstance(tree, ast.Compare)
    if not all(map(_arithmetic, [tree.left, *tree.comparators] if compares else [tree])):
        raise wrong
    inner = (t.formula for t in terms if isinstance(t, Place))
    size = sum(1 if one is None else one.size for one in inner)
    if size > MOST_TERMS:
        expected = f"expected at most {MOST_TERMS:,} terms, with those of the names in it"
        raise Problem(f"{expected}; got {size:,} in '{shown(text)}'")
    return Formula(" ".join(text.split()), tuple(terms), compares, tree, size)


def _tokens(text: str, names: Mapping, shapes: Mapping) -> tuple[str, list[Place | Decimal]]:
    """The text as Python writes it, with _k for every number, name and place, and what these
    stand for."""
    by_length = sorted(names, key=len, reverse=True)
    tokens, terms, at = [], [], 0
    while at < len(text):
        own = next((n for n in by_length if text.startswith(n, at) and _ends(text, at, n)), None)
        row = ROW.match(text, at)
        operator = OPERATOR.match(text[at].translate(TYPED) + text[at + 1 : at + 2])
        word = WORD.match(text, at)
        if text[at].isspace():
            at += 1
        elif own is not None:
            at += len(own)
            terms.append(names[own])
            tokens.append(f"_{len(terms) - 1}")
        elif row and row[0].partition("[")[0].strip() in shapes:
            at = row.end()
            terms.append(place("".join(row[0].split()), shapes))
            tokens.append(f"_{len(terms) - 1}")
        elif number := NUMBER.match(text, at):
            at = number.end()
            terms.append(Decimal(number[0]))
            tokens.append(f"_{len(terms) - 1}")
        elif operator:
            at += 1 if text[at] in "≤≥" else len(operator[0])
            tokens.append(operator[0])
        elif word and word[0] in FUNCTIONS:
            at = word.end()
            tokens.append(word[0])
        elif word:
            unknown = (row or word)[0].strip()
            near = nearest(unknown, [*names, *FUNCTIONS, *shapes])
            raise Problem(f"unknown name '{shown(unknown)}'{near} in '{shown(text)}'")
        else:
            raise Problem(f"'{text[at]}' cannot stand in an expression, got '{shown(text)}'")
    return " ".join(tokens), terms


def _ends(text: str, at: int, name: str) -> bool:
    """Whether the name is over there: w1 is not the beginning of w11."""
    return not (name[-1:].isalnum() and re.match(r"\w|\[|\.\d", text[at + len(name) :]))


def _depth(tree: ast.AST) -> int:
    """Levels, without recursion: what is read may be deep."""
    deepest, level = 0, [tree]
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        deepest += 1
    return deepest


def _arithmetic(node: ast.AST) -> bool:
    """Whether it is nothing but names, operations and functions."""
    if isinstance(node, ast.BinOp):
        return type(node.op) in OPERATIONS and _arithmetic(node.left) and _arithmetic(node.right)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.UAdd) and _arithmetic(node.operand)
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        return named and len(node.args) == 1 and _arithmetic(node.args[0])
    return isinstance(node, ast.Name) and node.id not in FUNCTIONS


def _evaluate(node: ast.AST, terms: list[Decimal]) -> Decimal:
    def of(child: ast.AST) -> Decimal:
        return _evaluate(child, terms)

    if isinstance(node, ast.Compare):
        values = [of(term) for term in (node.left, *node.comparators)]
        pairs = zip(node.ops, values, values[1:], strict=False)
        return Decimal(all(COMPARISONS[type(op)](a, b) for op, a, b in pairs))
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](of(node.left), of(node.right))
    if isinstance(node, ast.UnaryOp):
        return -of(node.operand) if isinstance(node.op, ast.USub) else of(node.operand)
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.func.id](of(node.args[0]))
    return terms[int(node.id[1:])]


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > LARGEST_POWER:
        raise OverflowError
    return base**exponent
