"""Functions that a model brings along, written out where they are called, after checking that this ends and stays small.

A function may call others, so a few lines can stand for 2^n operators, or call itself: both are refused before anything is
written out. Source: ONNX IR specification, "Functions" (functions must not be recursive).
"""

from collections import Counter
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError

LARGEST_GROWTH = 10
"""Operators written out, per operator in the file; exporters write a function for each layer and call it once or often."""
FREE_NODES = 5_000
"""Operators that may be written out whatever the file's size."""
LARGEST_BYTES = 256 * 1024**2
"""Bytes of all that is written out: a function may carry constants, which are copied at each call."""
DEEPEST_CALLS = 64
"""Functions within functions; the library that writes them out follows them by recursion."""
Key = tuple[str, str, str]


def inlined(model: Any, path: Path) -> Any:
    """Return the model without functions of its own.

    Raises:
        InputError: for a function that is defined twice or calls itself, too many operators or bytes, or a malformed call.

    """
    if not model.functions:
        return model
    functions: dict[Key, Any] = {}
    for function in model.functions:
        key = _key(function.domain, function.name, function.overload)
        if key in functions:
            raise InputError(f"{path}: function '{_spelt(key)}' is defined twice; the file is damaged")
        functions[key] = function
    calls = {key: _calls(function.node, functions) for key, function in functions.items()}
    order = _order(calls, path)
    size = {key: (len(f.node), sum(n.ByteSize() for n in f.node)) for key, f in functions.items()}
    for key in order:  # a function's callees come before it, so their sizes are whole
        size[key] = _total(size[key], calls[key], size)
    start = (len(model.graph.node), model.graph.ByteSize())
    nodes, count = _total(start, _calls(model.graph.node, functions), size)
    written = start[0] + sum(len(f.node) for f in model.functions)
    if nodes > FREE_NODES + LARGEST_GROWTH * written or count > max(LARGEST_BYTES, 2 * start[1]):
        raise InputError(
            f"{path}: its functions stand for {_short(nodes)} operators of {_short(count)} bytes, the file holds {written}; "
            f"at most {LARGEST_GROWTH} times as many are written out: inline them with onnx.inliner where that is meant"
        )
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # the checks of a library that is not ours: several types, none public
        raise InputError(f"{path}: its functions cannot be written out ({error}); check it with onnx.checker") from None


def _key(domain: str, name: str, overload: str) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _spelt(key: Key) -> str:
    return ".".join(part for part in key if part)


def _short(number: int) -> str:
    return str(number) if number < 10**12 else f"more than 10^{(number.bit_length() - 1) * 3 // 10}"


def _calls(nodes: Any, functions: dict[Key, Any]) -> Counter[Key]:
    """Return how often nodes, and the bodies inside them, call each function."""
    found: Counter[Key] = Counter()
    stack = [nodes]
    while stack:
        for node in stack.pop():
            key = _key(node.domain, node.op_type, getattr(node, "overload", ""))
            if key in functions:
                found[key] += 1
            for attribute in node.attribute:
                stack.extend(g.node for g in (attribute.g, *attribute.graphs) if g.node)
    return found


def _order(calls: dict[Key, Counter[Key]], path: Path) -> list[Key]:
    """Return the functions, callees first, layer by layer."""
    depth: dict[Key, int] = {}
    left = dict(calls)
    level = 0
    while left:
        ready = [key for key, called in left.items() if all(c in depth for c in called)]
        if not ready:
            raise InputError(
                f"{path}: function '{_spelt(next(iter(left)))}' calls itself, which ONNX forbids; remove the circle"
            )
        level += 1
        if level > DEEPEST_CALLS:
            raise InputError(f"{path}: functions call functions more than {DEEPEST_CALLS} deep; inline them first")
        for key in ready:
            depth[key] = level
            del left[key]
    return list(depth)


def _total(own: tuple[int, int], called: Counter[Key], size: dict[Key, tuple[int, int]]) -> tuple[int, int]:
    nodes, count = own
    for key, times in called.items():
        nodes += times * size[key][0]
        count += times * size[key][1]
    return nodes, count
