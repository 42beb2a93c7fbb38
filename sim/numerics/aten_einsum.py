"""Einstein sums as the products they are: axes reordered, multiplied as matrices, reordered again.

Operands are contracted from left to right. Traces and diagonals (a letter twice in one operand) are refused.
"""

from math import prod
from typing import TYPE_CHECKING

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op, ReduceKind
from picojoule.sim.ir import Operand, TensorType
from picojoule.sim.numerics.aten_compute import is_stored
from picojoule.sim.numerics.aten_layout import moved
from picojoule.sim.numerics.torch_types import BatchError

if TYPE_CHECKING:
    from picojoule.sim.numerics.torch_calls import Call

Term = tuple[Operand, str]
"""An operand and a letter per axis."""


def einsum(call: "Call") -> Operand:
    equation, operands = str(call.value("equation")).replace(" ", ""), call.operands("tensors")
    call.seen("path")
    inputs, output = _letters(call, equation, [len(o.shape) for o in operands])
    if any(len(set(letters)) != len(letters) for letters in inputs):
        call.refuse("a letter twice in one operand")
    terms = list(zip(operands, inputs, strict=True))
    term = terms[0]
    for i, other in enumerate(terms[1:]):
        later = "".join(letters for _, letters in terms[i + 2 :]) + output
        term = _contracted(call, term, other, later, i)
    x, letters = _summed(call, term, output, "sum")
    made = moved(call, x, [letters.index(c) for c in output], "order")
    return call.reshaped(made, call.types[0], "result")


def _letters(call: "Call", equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the result; `...` becomes capital letters that are not in use."""
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    most = max((r - len(p) + 3 for p, r in zip(parts, ranks, strict=True) if "..." in p), default=0)
    dots = "".join(free[:most])
    inputs = []
    for part, rank in zip(parts, ranks, strict=True):
        count = rank - len(part.replace("...", ""))
        inputs.append(part.replace("...", dots[most - count :] if count else ""))
    if not arrow:
        seen = "".join(inputs)
        right = "..." + "".join(sorted(c for c in set(seen) - set(dots) if seen.count(c) == 1))
    output = right.replace("...", dots if "..." in left else "")
    if any(len(letters) != rank for letters, rank in zip(inputs, ranks, strict=True)):
        call.refuse("an equation that does not fit its operands")
    return inputs, output


def _summed(call: "Call", term: Term, kept: str, suffix: str) -> Term:
    x, letters = term
    axes = tuple(i for i, c in enumerate(letters) if c not in kept)
    if not axes:
        return term
    attributes = at.ReduceAttributes(kind=ReduceKind.SUM, axes=axes, keepdims=False)
    return call.inner(Op.REDUCE, [x], attributes, suffix), "".join(c for c in letters if c in kept)


def _contracted(call: "Call", first: Term, second: Term, later: str, step: int) -> Term:
    """Multiply two terms over the letters they share and nobody needs later."""
    a, la = _summed(call, first, second[1] + later, f"sum{step}a")
    b, lb = _summed(call, second, la + later, f"sum{step}b")
    shared = [c for c in la if c in lb and c in later]
    inner = [c for c in la if c in lb and c not in later]
    rows, columns = [c for c in la if c not in lb], [c for c in lb if c not in la]
    size, grows = _sizes(((a, la), (b, lb)))
    if not inner:
        return _outer(call, (a, la), (b, lb), step)
    if grows in inner:
        raise BatchError("a sum over the batch")
    a3 = _matrix(call, (a, la), (shared, rows, inner), size, grows, f"left{step}")
    b3 = _matrix(call, (b, lb), (shared, inner, columns), size, grows, f"right{step}")
    if is_stored(b3) and not shared:
        flat = call.derived(b3, "matrix", lambda t: t.transpose(0, 1))
        y = call.inner(Op.LINEAR, [a3, flat], at.LinearAttributes(), f"product{step}")
    else:
        y = call.inner(Op.MATMUL, [a3, b3], at.MatmulAttributes(), f"product{step}")
    letters = [*shared, *rows, *columns]
    kind = TensorType(
        shape=tuple(size[c] for c in letters), batch_axis=letters.index(grows) if grows in letters else None
    )
    return call.reshaped(y, kind, f"axes{step}"), "".join(letters)


def _sizes(terms: tuple[Term, Term]) -> tuple[dict[str, int], str]:
    """Return the size of each letter and the letter that grows with the batch."""
    size: dict[str, int] = {}
    grows = ""
    for x, letters in terms:
        for i, c in enumerate(letters):
            size[c] = max(size.get(c, 1), x.shape[i])
            grows = c if x.type.batch_axis == i else grows
    return size, grows


def _outer(call: "Call", first: Term, second: Term, step: int) -> Term:
    """Multiply element by element where no letter is summed."""
    (a, la), (b, lb) = first, second
    letters = la + "".join(c for c in lb if c not in la)
    wide = []
    for x, own, name in ((a, la, "left"), (b, lb, "right")):
        x = moved(call, x, [own.index(c) for c in letters if c in own], f"{name}{step}") if not is_stored(x) else x
        if is_stored(x):
            order = [own.index(c) for c in letters if c in own]
            shape = tuple(x.shape[own.index(c)] if c in own else 1 for c in letters)
            wide.append(call.derived(x, name, lambda t, o=order, s=shape: t.permute(o).reshape(s)))  # type: ignore[misc]
            continue
        sorted_letters = [c for c in letters if c in own]
        grows = None if x.type.batch_axis is None else letters.index(sorted_letters[x.type.batch_axis])
        sizes = dict(zip(sorted_letters, x.shape, strict=True))
        kind = TensorType(shape=tuple(sizes.get(c, 1) for c in letters), batch_axis=grows)
        wide.append(call.reshaped(x, kind, f"{name}{step}_axes"))
    return call.elementwise(Ew.MUL, wide, f"outer{step}"), letters


def _matrix(
    call: "Call",
    term: Term,
    groups: tuple[list[str], list[str], list[str]],
    size: dict[str, int],
    grows: str,
    suffix: str,
) -> Operand:
    """Return a term as [*shared, rows, columns]; without shared letters as a plain matrix."""
    x, letters = term
    lead, rows, columns = groups
    order = [letters.index(c) for c in (*lead, *rows, *columns)]
    shape = (*(size[c] for c in lead), prod(size[c] for c in rows), prod(size[c] for c in columns))
    if is_stored(x):
        return call.derived(x, suffix, lambda t: t.permute(order).reshape(shape))
    place = None
    if grows in letters:
        place = lead.index(grows) if grows in lead else len(lead) + (grows in columns)
        joined = rows if grows in rows else columns if grows in columns else [grows]
        if len(joined) > 1 and grows != joined[0] and any(size[c] > 1 for c in joined[: joined.index(grows)]):
            place = len(lead) + (grows in columns)  # the batch lies inside: the joined axis grows all the same
    moved_x = moved(call, x, order, f"{suffix}_order")
    return call.reshaped(moved_x, TensorType(shape=shape, batch_axis=place), suffix)
