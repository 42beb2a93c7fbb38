"""Damage that knows ONNX: graphs with cycles, impossible sizes, lying tensors, data outside the folder, bombs."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from .bombs_onnx import BOMBS, raw_depth
from .corpus_onnx import OPERATORS, models
from .mutate_bytes import HOSTILE_INTS, damaged

SECRET = "secret.bin"
"""A file beside the case's folder that no case may open."""
NAMES = (
    "",
    " ",
    "x",
    "y",
    "x_relu",
    "out",
    "line\nbreak",
    "\x1b[31mred",
    "a" * 4000,
    "é\u202e",
    "%s{0}",
    "../x",
    "node.then_branch.x",
)
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 1e38, 1e-45, 3.4e38)
Mutation = Callable[[random.Random, ModelProto], None]


def _node(rng: random.Random, m: ModelProto) -> Any:
    return rng.choice(m.graph.node)


def _names(m: ModelProto) -> list[str]:
    values = [v.name for v in (*m.graph.input, *m.graph.initializer)]
    return [*values, *(o for n in m.graph.node for o in n.output), ""]


def rewire(rng: random.Random, m: ModelProto) -> None:
    """Read another value, later ones and its own result too."""
    node = _node(rng, m)
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(m))


def swap(rng: random.Random, m: ModelProto) -> None:
    """Exchange, drop or add operands."""
    inputs = _node(rng, m).input
    choice = rng.random()
    if choice < 0.4 and len(inputs) > 1:
        i, j = rng.sample(range(len(inputs)), 2)
        inputs[i], inputs[j] = inputs[j], inputs[i]
    elif choice < 0.7 and inputs:
        del inputs[rng.randrange(len(inputs))]
    else:
        inputs.extend([rng.choice(_names(m))] * rng.choice((1, 1, 3, 500)))


def drop(rng: random.Random, m: ModelProto) -> None:
    """Leave a node, a stored tensor, an input or an output out."""
    part = rng.choice((m.graph.node, m.graph.node, m.graph.initializer, m.graph.input, m.graph.output))
    if part:
        del part[rng.randrange(len(part))]


def repeat(rng: random.Random, m: ModelProto) -> None:
    """Write a node or a tensor twice, or many times."""
    part = rng.choice((m.graph.node, m.graph.node, m.graph.initializer, m.graph.input, m.graph.output))
    if part:
        item = rng.choice(part)
        part.extend([item] * rng.choice((1, 1, 2, 40)))


def reorder(rng: random.Random, m: ModelProto) -> None:
    """Put the nodes into another order."""
    nodes = list(m.graph.node)
    rng.shuffle(nodes)
    del m.graph.node[:]
    m.graph.node.extend(nodes)


def rename(rng: random.Random, m: ModelProto) -> None:
    """Give a node, a result, an operator or the domain a hostile or foreign name."""
    node, name = _node(rng, m), rng.choice(NAMES)
    choice = rng.random()
    if choice < 0.2:
        node.name = name
    elif choice < 0.5 and node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice((name, *_names(m)))
    elif choice < 0.8:
        node.op_type = rng.choice(
            (name, *(recipe[0] for recipe in OPERATORS), "If", "Loop", "Scan", "Constant", "Shape")
        )
    elif choice < 0.9:
        node.domain = rng.choice(("local", "com.microsoft", "ai.onnx.ml", "ai.onnx", name))
    else:
        for part in (m.graph.initializer, m.graph.input, m.graph.output):
            if part:
                rng.choice(part).name = name
                break


def outputs(rng: random.Random, m: ModelProto) -> None:
    """Change how many results a node has."""
    results = _node(rng, m).output
    if results and rng.random() < 0.5:
        del results[rng.randrange(len(results))]
    else:
        results.extend(f"extra{i}" for i in range(rng.choice((1, 3, 300))))


def attribute(rng: random.Random, m: ModelProto) -> None:
    """Change an attribute: value, length, type, name, presence."""
    having = [n for n in m.graph.node if n.attribute]
    if not having:
        return added_attribute(rng, m)
    node = rng.choice(having)
    a = rng.choice(node.attribute)
    choice = rng.random()
    if choice < 0.08:
        node.attribute.remove(a)
    elif choice < 0.14:
        a.type = rng.randrange(0, 15)
    elif choice < 0.2:
        a.name = rng.choice(("axis", "axes", "perm", "group", "to", "value", "pads", "strides", "body", "kernel_shape"))
    elif a.type == AttributeProto.INT:
        a.i = rng.choice(HOSTILE_INTS)
    elif a.type == AttributeProto.INTS:
        _list(rng, a.ints, HOSTILE_INTS)
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice(FLOATS)
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice((b"", b"\xff\xfe", b"\0", b"VALID", b"SAME_LOWER", b"linear", b"cubic", b"a" * 5000, b"x\ny"))
    elif a.type == AttributeProto.TENSOR:
        _tensor(rng, a.t)
    elif a.type == AttributeProto.GRAPH and a.g.node:
        inner = ModelProto()
        inner.graph.CopyFrom(a.g)
        rng.choice((rewire, swap, drop, repeat, rename, outputs, tensor))(rng, inner)
        a.g.CopyFrom(inner.graph)
    return None


def added_attribute(rng: random.Random, m: ModelProto) -> None:
    """Give a node an attribute that it has not, or has."""
    key = rng.choice(
        ("axis", "axes", "perm", "group", "to", "pads", "strides", "dilations", "keepdims", "hidden_size", "split")
    )
    value = rng.choice(
        ([rng.choice(HOSTILE_INTS)] * rng.choice((1, 2, 4, 1000)), rng.choice(HOSTILE_INTS), "text", 0.5)
    )
    _node(rng, m).attribute.append(helper.make_attribute(key, value))


def _list(rng: random.Random, values: Any, hostile: Any) -> None:
    choice = rng.random()
    if choice < 0.6 and values:
        values[rng.randrange(len(values))] = rng.choice(hostile)
    elif choice < 0.8 and values:
        del values[rng.randrange(len(values))]
    else:
        values.extend([rng.choice(hostile)] * rng.choice((1, 2, 7, 3000)))


def tensor(rng: random.Random, m: ModelProto) -> None:
    """Change a stored tensor."""
    if m.graph.initializer:
        _tensor(rng, rng.choice(m.graph.initializer))


def _tensor(rng: random.Random, t: Any) -> None:
    choice = rng.random()
    if choice < 0.3:
        _hostile_values(rng, t)
    elif choice < 0.55:
        _list(rng, t.dims, HOSTILE_INTS)
    elif choice < 0.65:
        t.data_type = rng.choice((*range(27), 99, -1, 2**31 - 1))
    elif choice < 0.8:
        t.raw_data = rng.choice(
            (b"", t.raw_data[:-1], t.raw_data * 2, b"\xff" * len(t.raw_data), b"\0" * len(t.raw_data))
        )
    elif choice < 0.9:
        external(rng, t)
    else:
        t.ClearField("raw_data")
        if rng.random() < 0.5:
            t.float_data.extend([1.0] * rng.choice((0, 1, 4, 100)))
        else:
            t.string_data.append(b"text")


def _hostile_values(rng: random.Random, t: Any) -> None:
    """Keep the tensor sound and change its values: sizes, axes and bounds that the graph works with."""
    if t.data_location:
        return
    try:
        values = np.array(numpy_helper.to_array(t))
    except (ValueError, TypeError, LookupError, AttributeError):
        return
    if not values.size:
        return
    at = rng.randrange(values.size)
    if values.dtype.kind == "f":
        values.flat[at] = rng.choice(FLOATS)
    elif values.dtype.kind in "iu":
        bounds = np.iinfo(values.dtype)
        values.flat[at] = max(bounds.min, min(bounds.max, rng.choice(HOSTILE_INTS)))
    name = t.name
    t.CopyFrom(numpy_helper.from_array(values, name))


def external(rng: random.Random, t: Any) -> None:
    """Move the tensor's data out of the model: to where they may lie, or must not."""
    place = rng.choice(
        (
            f"../{SECRET}",
            f"a/../../{SECRET}",
            f"..\\{SECRET}",
            "/etc/passwd",
            "C:\\x",
            "link.bin",
            "loop.bin",
            "data.bin",
            "folder",
            "data.bin/",
            "",
            "\0",
            "missing",
            "a" * 5000,
            "/dev/zero",
            "fifo",
        )
    )
    entries = {"location": place}
    if rng.random() < 0.6:
        entries["offset"] = rng.choice(("0", "1", "-1", str(2**62), "x", "", "1e3", "9" * 5000))
    if rng.random() < 0.6:
        entries["length"] = rng.choice(("0", "16", "-1", str(2**62), "9" * 30, "4.0"))
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    del t.external_data[:]
    for key, value in entries.items():
        t.external_data.add(key=key, value=value)


def declared(rng: random.Random, m: ModelProto) -> None:
    """Change the declared type of an input or of a value."""
    if rng.random() < 0.3:
        name = rng.choice(_names(m))
        dims = [rng.choice((*HOSTILE_INTS, "N", "K")) for _ in range(rng.choice((0, 1, 4, 9)))]
        m.graph.value_info.append(helper.make_tensor_value_info(name, rng.choice((1, 7, 9)), dims))
        return
    if not m.graph.input:
        return
    kind = rng.choice(m.graph.input).type
    choice = rng.random()
    if choice < 0.6 and kind.tensor_type.shape.dim:
        dim = rng.choice(kind.tensor_type.shape.dim)
        if rng.random() < 0.7:
            dim.dim_value = rng.choice(HOSTILE_INTS)
        else:
            dim.dim_param = rng.choice(("batch", "N", "length", "", "a b", "-1", "é"))
    elif choice < 0.7:
        kind.tensor_type.elem_type = rng.choice((0, 1, 6, 7, 8, 9, 10, 11, 16, 20, 99))
    elif choice < 0.8:
        kind.tensor_type.ClearField("shape")
    elif choice < 0.9:
        del kind.tensor_type.shape.dim[:]
        for _ in range(rng.choice((0, 1, 30, 500))):
            kind.tensor_type.shape.dim.add(dim_value=rng.choice((1, 2)))
    else:
        rng.choice((kind.sequence_type.elem_type, kind.optional_type.elem_type)).tensor_type.elem_type = 1


def version(rng: random.Random, m: ModelProto) -> None:
    """Change the operator sets or the format's version."""
    if rng.random() < 0.3:
        m.ir_version = rng.choice(HOSTILE_INTS)
    elif m.opset_import and rng.random() < 0.8:
        m.opset_import[0].version = rng.choice((*range(1, 30), *HOSTILE_INTS))
    else:
        m.opset_import.add(domain=rng.choice(("", "local", "x")), version=rng.choice(HOSTILE_INTS))


def functions(rng: random.Random, m: ModelProto) -> None:
    """Make a model's own functions call themselves, each other, or nothing."""
    if not m.functions:
        return
    function = rng.choice(m.functions)
    choice = rng.random()
    if choice < 0.4 and function.node:
        rng.choice(function.node).op_type = rng.choice([f.name for f in m.functions])
        rng.choice(function.node).domain = "local"
    elif choice < 0.6:
        del function.output[:]
    elif choice < 0.8:
        m.functions.append(function)
    else:
        function.name, function.domain = rng.choice(("Relu", "Conv", "", "Inner")), rng.choice(("", "local", "x"))


MUTATIONS: tuple[Mutation, ...] = (
    *(
        rewire,
        swap,
        drop,
        repeat,
        reorder,
        rename,
        outputs,
        attribute,
        attribute,
        attribute,
        attribute,
        added_attribute,
    ),
    *(tensor, tensor, tensor, tensor, declared, declared, version, functions),
)


def write(rng: random.Random, path: Path) -> str:
    """Write a hostile model to `path` (and what lies beside it) and say in a word what was done."""
    kind = rng.random()
    if kind < 0.25:
        path.write_bytes(damaged(rng, rng.choice(models())))
        return "bytes"
    if kind < 0.26:
        path.write_bytes(raw_depth(rng))
        return "raw_depth"
    if kind < 0.4:
        bomb = rng.choice(BOMBS)
        m, label = bomb(rng), bomb.__name__
        if rng.random() < 0.3:
            rng.choice(MUTATIONS)(rng, m)
    else:
        m, label = ModelProto.FromString(rng.choice(models())), ""
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            mutation = rng.choice(MUTATIONS)
            if m.graph.node:
                mutation(rng, m)
                label += f"{'+' if label else ''}{mutation.__name__}"
    if any(t.data_location for t in m.graph.initializer) or b"link.bin" in m.SerializeToString():
        _neighbours(path.parent)
    path.write_bytes(m.SerializeToString())
    return label


def _neighbours(folder: Path) -> None:
    """Lay out what external data may point at: data, a folder, links out of the folder and in circles."""
    (folder / "data.bin").write_bytes(bytes(1 << 12))
    (folder / "folder").mkdir()
    (folder / "link.bin").symlink_to(f"../{SECRET}")
    (folder / "loop.bin").symlink_to("loop.bin")
    os.mkfifo(folder / "fifo")
