"""Small ONNX files that ask for much: values that double, loops without end, towers of functions, terabytes in a shape."""

import random
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from .corpus_onnx import IMAGE, ints, model, stored
from .mutate_bytes import HOSTILE_INTS


def _relu(body: Any, depth: int) -> Any:
    """Return a graph of branches within branches."""
    graph = helper.make_graph(
        [helper.make_node(body, ["x"], ["y"])], "inner", [], [helper.make_tensor_value_info("y", 1, None)]
    )
    for i in range(depth):
        node = helper.make_node("If", ["yes"], [f"y{i}"], name=f"if{i}", then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "inner", [], [helper.make_tensor_value_info(f"y{i}", 1, None)])
    return graph


def deep_branches(rng: random.Random) -> ModelProto:
    """Branches within branches: the file doubles with each level, the parser's depth is limited."""
    depth = rng.randrange(1, 9)
    node = helper.make_node("If", ["yes"], ["out"], then_branch=_relu("Relu", depth), else_branch=_relu("Tanh", 1))
    return model([node], [("x", IMAGE)], ["out"], [numpy_helper.from_array(np.array(True), "yes")])


def turns(rng: random.Random) -> ModelProto:
    """Loops within loops (or open branches within open branches), with turns by the million."""
    n, value = helper.make_node, helper.make_tensor_value_info
    depth, trips = rng.choice((1, 2, 3, 12)), rng.choice((3, 100, 4000, 2**40))
    inner_op = rng.choice(("Identity", "Relu", "Add"))
    known = rng.random() < 0.7
    numbers = [numpy_helper.from_array(np.array(trips), "trips"), numpy_helper.from_array(np.array(True), "yes")]
    node = n(inner_op, ["x", "x"] if inner_op == "Add" else ["x"], ["r0"])
    for i in range(depth):
        if rng.random() < 0.3:
            body = helper.make_graph([node], "b", [], [value(f"r{i}", 1, None)])
            node = n("If", ["yes" if known else "some"], [f"r{i + 1}"], then_branch=body, else_branch=body)
            continue
        inputs = [value(f"i{i}", 7, []), value(f"go{i}", 9, [])]
        go = n("Identity", ["yes" if known else "some"], [f"on{i}"])
        body = helper.make_graph([node, go], "b", inputs, [value(f"on{i}", 9, None), value(f"r{i}", 1, None)])
        node = n("Loop", ["trips" if rng.random() < 0.8 else "", "yes"], [f"r{i + 1}"], body=body)
    nodes = [n("ReduceMax", ["x"], ["top"], keepdims=0), n("Cast", ["top"], ["some"], to=9), node]
    nodes.append(n("ReduceSum", [f"r{depth}"], ["out"]))
    return model(nodes, [("x", (1, 4))], ["out"], numbers)


def function_tower(rng: random.Random) -> ModelProto:
    """Functions that each call the one below twice (or many times): 2^n operators from n."""
    levels, fan = rng.choice((8, 20, 40, 90)), rng.choice((2, 2, 10))
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    made = [helper.make_function("local", "F0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], sets)]
    for i in range(1, levels):
        names = ["a", *(f"t{j}" for j in range(fan - 1)), "b"]
        calls = [helper.make_node(f"F{i - 1}", [names[j]], [names[j + 1]], domain="local") for j in range(fan)]
        made.append(helper.make_function("local", f"F{i}", ["a"], ["b"], calls, sets))
    if rng.random() < 0.3:
        made[0].node[0].op_type, made[0].node[0].domain = f"F{levels - 1}", "local"
    return model(
        [helper.make_node(f"F{levels - 1}", ["x"], ["out"], domain="local")], [("x", IMAGE)], ["out"], (), 17, made
    )


def doubling(rng: random.Random) -> ModelProto:
    """A value joined to itself again and again, or repeated, computed or stored."""
    op, steps = rng.choice(("Concat", "Tile", "Pad", "Expand", "Add", "MatMul", "Resize")), rng.choice((5, 25, 60))
    start = rng.choice(("x_in", "seed"))
    nodes, name = [], start
    values = {
        "seed": stored(rng.choice((1, 1, 1024)), 4, 8, 8),
        "two": ints(1, 1, 2, 2),
        "pads": ints(0, 0, 0, 0, 0, 0, 2**20, 2**20),
        "big": ints(2**20, 1, 1, 1, 1, 1),
    }
    values["scales"] = np.array([1, 1, 2, 2], np.float32)
    for i in range(steps):
        inputs = {
            "Concat": [name] * rng.choice((2, 2, 1000)),
            "Tile": [name, "two"],
            "Pad": [name, "pads"],
            "Expand": [name, "big"],
        }
        inputs |= {"Add": [name, name], "MatMul": [name, name], "Resize": [name, "", "scales"]}
        nodes.append(helper.make_node(op, inputs[op], [f"v{i}"], **({"axis": 2} if op == "Concat" else {})))
        name = f"v{i}"
    nodes.append(helper.make_node("Add", [name, "x_in"], ["out"]))
    return model(nodes, [("x_in", (1, 4, 8, 8))], ["out"], [numpy_helper.from_array(v, n) for n, v in values.items()])


def giant_constant(rng: random.Random) -> ModelProto:
    """A tensor of a few bytes in the file and terabytes in memory, used as weights or in arithmetic."""
    side = rng.choice((2**6, 2**13, 2**15, 2**20, 2**31 - 1))
    user = rng.choice(
        (
            "Conv",
            "MatMul",
            "Gemm",
            "Gather",
            "Add",
            "ReduceSum",
            "NonZero",
            "Transpose",
            "Reshape",
            "Slice",
            "Where",
            "Cast",
            "Equal",
            "Clip",
            "Tile",
            "Expand",
            "Resize",
            "OneHot",
            "CumSum",
            "TopK",
            "Range",
        )
    )
    shape = {"Conv": (side, 4, 3, 3), "MatMul": (8, side), "Gemm": (8, side)}.get(
        user, (side, rng.choice((1, 8, side)))
    )
    fill = np.array([rng.choice((1, 2, 0, 2**30))], rng.choice((np.float32, np.int64, np.bool_)))
    n = helper.make_node
    nodes = [n("ConstantOfShape", ["shape"], ["w"], value=numpy_helper.from_array(fill))]
    extra = {
        "Gather": ["small"],
        "Reshape": ["small"],
        "Slice": ["small", "small"],
        "Where": ["w", "w"],
        "Tile": ["small"],
        "Expand": ["shape"],
    }
    extra |= {
        "Equal": ["w"],
        "OneHot": ["one", "small"],
        "CumSum": ["one"],
        "TopK": ["one"],
        "Range": ["w", "w"],
        "Resize": ["", "small"],
    }
    attributes: dict[str, Any] = {"Cast": {"to": 7}}.get(user, {})
    if user in ("Conv", "MatMul", "Gemm"):
        nodes.append(n(user, ["x", "w"], ["out"]))
    else:
        nodes += [n(user, ["w", *extra.get(user, [])], ["c"], **attributes), n("Add", ["x", "c"], ["out"])]
    start = {"Conv": (1, 4, 8, 8)}.get(user, (2, 8))
    values = {"shape": ints(*shape), "small": ints(0, 1), "one": np.array(1, np.int64)}
    return model(nodes, [("x", start)], ["out"], [numpy_helper.from_array(v, k) for k, v in values.items()])


def ranges(rng: random.Random) -> ModelProto:
    """Range, Pad, Resize, Tile and Expand with enormous arguments read from stored numbers."""
    big = rng.choice(HOSTILE_INTS)
    step = rng.choice((1, -1, 0, 2**62))
    n = helper.make_node
    kind = rng.choice((np.int64, np.float32, np.float64, np.int32))
    with np.errstate(all="ignore"):
        numbers = {"a": np.array(0, kind), "b": np.array(big).astype(kind), "d": np.array(step).astype(kind)}
    values = {
        **numbers,
        "sizes": ints(1, 4, rng.choice(HOSTILE_INTS), rng.choice(HOSTILE_INTS)),
        "pads": ints(*[0] * 7, big),
    }
    nodes = [n("Range", ["a", "b", "d"], ["r"])]
    nodes.append(
        rng.choice(
            (
                n("Reshape", ["x", "r"], ["out"]),
                n("Expand", ["x", "sizes"], ["out"]),
                n("Tile", ["x", "sizes"], ["out"]),
                n("Pad", ["x", "pads"], ["out"]),
                n("Resize", ["x", "", "", "sizes"], ["out"]),
                n("Slice", ["x", "r", "r"], ["out"]),
                n("Reshape", ["x", "sizes"], ["out"]),
                n("Gather", ["x", "r"], ["out"]),
                n("ConstantOfShape", ["r"], ["out"]),
            )
        )
    )
    return model(nodes, [("x", (1, 4, 8, 8))], ["out"], [numpy_helper.from_array(v, k) for k, v in values.items()])


def many(rng: random.Random) -> ModelProto:
    """A thousand nodes in a row, in a fan, or all reading everything before them."""
    count, form = rng.choice((200, 1000)), rng.choice(("row", "fan", "all", "names", "unused"))
    n = helper.make_node
    if form == "all":
        nodes = [n("Sum", ["x", *(f"v{j}" for j in range(i))], [f"v{i}"]) for i in range(40)]
    elif form == "fan":
        nodes = [n("Relu", ["x"], [f"v{i}"]) for i in range(count)] + [n("Sum", [f"v{i}" for i in range(count)], ["v"])]
    elif form == "names":
        nodes = [n("Relu", ["x"], ["y"], name="same") for _ in range(count)]
    elif form == "unused":
        nodes = [n("Add", ["x", "w"], [f"v{i}"]) for i in range(count)]
    else:
        nodes = [
            n(rng.choice(("Relu", "Identity", "Mystery")), [f"v{i - 1}" if i else "x"], [f"v{i}"]) for i in range(count)
        ]
    last = nodes[-1].output[0]
    return model(nodes, [("x", IMAGE)], [last], [numpy_helper.from_array(stored(4, 8, 8), "w")])


def raw_depth(rng: random.Random) -> bytes:
    """Return messages within messages, deeper than a parser should follow: graph > node > attribute > graph > ..."""
    content = b""
    for _ in range(rng.choice((20, 33, 400, 5000))):
        for key in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            content = bytes([key]) + _varint(len(content)) + content
    return b"\x08\x08" + b"\x3a" + _varint(len(content)) + content + b"\x42\x04\x0a\x00\x10\x11"


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


BOMBS = (
    turns,
    turns,
    deep_branches,
    function_tower,
    doubling,
    doubling,
    giant_constant,
    giant_constant,
    giant_constant,
    ranges,
    ranges,
    many,
)
