"""ONNX Einsum as transposes, reshapes and one batched matrix product per pair of operands.

Letters that both operands and the result have are batch axes, letters that only the operands have are summed; what one
operand alone has and nobody reads is summed before. A stored right operand without batch axes makes a linear layer.
"""

from collections.abc import Sequence
from math import prod
from string import ascii_letters

import numpy as np

from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_scope import Results, Scope
from picojoule.sim.importers.onnx_values import BatchError, Fixed, Node, UnhandledError, Value, number
from picojoule.sim.ir import Operand


def einsum(scope: Scope, node: Node) -> Results:
    """Einsum; more than two operands are taken in order."""
    terms, result = _equation(scope, node)
    value, letters = _reduced(scope, node, scope.value(node, 0), terms[0], {*result, *"".join(terms[1:])}, "term_0")
    for i in range(1, len(terms)):
        later = {*result, *"".join(terms[i + 1 :])}
        other, others = _reduced(scope, node, scope.value(node, i), terms[i], later | set(letters), f"term_{i}")
        value, letters = _pair(scope, node, value, letters, other, others, later, f"product_{i}")
    value, letters = _reduced(scope, node, value, letters, set(result), "sum")
    return (_ordered(scope, node, value, letters, result, ""),)


def _equation(scope: Scope, node: Node) -> tuple[list[str], str]:
    """Return each operand's letters and the result's; dots become letters of their own."""
    text = node.text("equation", "").replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(node.inputs):
        raise InputError(f"{scope.where(node)}: equation '{text}' names {len(terms)} operands, got {len(node.inputs)}")
    spare = [c for c in ascii_letters if c not in text]
    ranks = [len(scope.value(node, i).shape) for i in range(len(terms))]
    dots = max((r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True) if "..." in t), default=0)
    named = "".join(spare[:dots])
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term.replace("...", ""))
        full.append(term.replace("...", named[dots - count :] if count else ""))
        if len(full[-1]) != rank:
            raise InputError(f"{scope.where(node)}: '{term}' does not fit an operand of {rank} axes")
        if len(set(full[-1])) != rank:
            raise UnhandledError(f"'{term}' repeats an axis (a diagonal)")
    if arrow:
        return full, result.replace("...", named)
    letters = left.replace("...", "").replace(",", "")
    return full, named + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))


def _reduced(scope: Scope, node: Node, value: Value, letters: str, kept: set[str], step: str) -> tuple[Value, str]:
    """Sum the axes that nobody reads."""
    axes = [i for i, c in enumerate(letters) if c not in kept]
    if not axes:
        return value, letters
    summed = scope.lower(node, "ReduceSum", [value, number(f"axes {axes}", axes, np.int64)], step, opset=13, keepdims=0)
    return summed, "".join(c for c in letters if c in kept)


def _ordered(scope: Scope, node: Node, value: Value, letters: str, wanted: str, step: str) -> Value:
    """Return a value with its axes in the wanted order."""
    if set(letters) != set(wanted) or len(wanted) != len(set(wanted)):
        raise InputError(f"{scope.where(node)}: its result '{wanted}' does not follow from '{letters}'")
    if letters == wanted:
        return value
    return scope.lower(node, "Transpose", [value], step, perm=[letters.index(c) for c in wanted])


def _pair(
    scope: Scope, node: Node, a: Value, left: str, b: Value, right: str, later: set[str], step: str
) -> tuple[Value, str]:
    both = set(left) & set(right)
    summed = [c for c in left if c in both and c not in later]
    shared = [c for c in left if c in both and c in later]
    if not summed:
        return _elementwise(scope, node, a, left, b, right, step)
    sizes = dict(zip(right, b.shape, strict=True)) | dict(zip(left, a.shape, strict=True))
    if any(a.shape[left.index(c)] != b.shape[right.index(c)] for c in both):
        raise UnhandledError("an axis of size 1 is repeated")
    rows, columns = _first_batch(a, left, both), _first_batch(b, right, both)
    batch = _batch_letter(a, left) or _batch_letter(b, right)
    if batch in summed:
        raise BatchError("it sums over the batch")
    second = _grouped(scope, node, b, right, shared, summed, columns, f"{step}.b")
    if isinstance(b, Fixed) and not shared:  # a linear layer takes any axes before its features
        turned = _ordered(scope, node, a, left, "".join((*rows, *summed)), f"{step}.a.order")
        flat = [*(sizes[c] for c in rows), prod(sizes[c] for c in summed)]
        first = _reshaped(scope, node, turned, flat, f"{step}.a")
    else:
        first = _grouped(scope, node, a, left, shared, rows, summed, f"{step}.a")
    made = scope.lower(node, "MatMul", [first, second], step)
    shape = [sizes[c] for c in (*shared, *rows, *columns)]
    return _reshaped(scope, node, made, shape, f"{step}.apart"), "".join((*shared, *rows, *columns))


def _batch_letter(value: Value, letters: str) -> str | None:
    axis = value.type.batch_axis if isinstance(value, Operand) else None
    return None if axis is None else letters[axis]


def _first_batch(value: Value, letters: str, both: set[str]) -> list[str]:
    """Return the letters that one operand alone has; the batch comes first, so that merging keeps it outside."""
    batch = _batch_letter(value, letters)
    return sorted((c for c in letters if c not in both), key=lambda c: c != batch)  # stable: the others stay in order


def _grouped(
    scope: Scope,
    node: Node,
    value: Value,
    letters: str,
    shared: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str],
    step: str,
) -> Value:
    """Return a value as matrices [shared..., rows, columns]."""
    sizes = dict(zip(letters, value.shape, strict=True))
    turned = _ordered(scope, node, value, letters, "".join((*shared, *rows, *columns)), f"{step}.order")
    shape = [*(sizes[c] for c in shared), prod(sizes[c] for c in rows), prod(sizes[c] for c in columns)]
    return _reshaped(scope, node, turned, shape, step)


def _reshaped(scope: Scope, node: Node, value: Value, shape: Sequence[int], step: str) -> Value:
    if tuple(shape) == value.shape:
        return value
    target = list(shape)
    if isinstance(value, Operand) and value.type.batch_axis is not None:
        return scope.reshaped(node, value, tuple(shape), step)
    return scope.lower(node, "Reshape", [value, number(f"shape {target}", target, np.int64)], step)


def _elementwise(scope: Scope, node: Node, a: Value, left: str, b: Value, right: str, step: str) -> tuple[Value, str]:
    """Multiply with broadcasting, where nothing is summed."""
    letters = left + "".join(c for c in right if c not in left)
    wide = []
    for name, value, has in (("a", a, left), ("b", b, right)):
        order = "".join(c for c in letters if c in has)
        turned = _ordered(scope, node, value, has, order, f"{step}.{name}")
        missing = [i for i, c in enumerate(letters) if c not in has]
        wide.append(
            scope.lower(node, "Unsqueeze", [turned], f"{step}.{name}_wide", axes=missing) if missing else turned
        )
    if all(isinstance(v, Fixed) for v in wide):
        raise UnhandledError("it multiplies stored tensors")
    return scope.lower(node, "Mul", wide, step), letters
