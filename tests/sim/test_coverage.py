"""Coverage of a network: what is priced by operator, and what is not, counted by hand."""

from dataclasses import replace

import pytest

import picojoule as pj
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.evaluation import coverage_of, unsupported_sentence
from picojoule.sim.ir import TensorType, Unsupported
from picojoule.sim.weights import constant_fill

WINDOW = {"stride": (1, 1), "padding_begin": (0, 0), "padding_end": (0, 0), "dilation": (1, 1)}
RELU = at.ActivationAttributes(kind=at.ActivationKind.RELU)
UNKNOWN_MACS = (
    "the MACs of operators that are not understood are unknown: macs_priced is the share, by bytes moved, that understood "
    "layers with MACs have among those and the layers that are not understood"
)


def odd_network():
    """x [1, 3, 8, 8] -> conv 3x3 to 4 -> Foo -> ReLU -> Bar -> Foo -> flat [1, 144] -> linear to 10."""
    b = NetworkBuilder("odd")
    kind = TensorType(shape=(1, 4, 6, 6), batch_axis=0)
    x = b.input("x", TensorType(shape=(1, 3, 8, 8), batch_axis=0))
    weight = parameter("w", constant_fill(0.5, (4, 3, 3, 3)))
    (y,) = b.add(Op.CONV, [x, weight], at.ConvAttributes(**WINDOW), name="conv")
    (y,) = b.opaque("Foo", [y], [kind], name="foo1", source="net.py:3")
    (y,) = b.add(Op.ACTIVATION, [y], RELU, name="relu")
    (y,) = b.opaque("Bar", [y, y], [kind, kind], name="bar", source="net.py:4", reason="its mode is odd")[:1]
    (y,) = b.opaque("Foo", [y], [kind], name="foo2", source="net.py:5")
    (y,) = b.add(Op.RESHAPE, [y], at.ReshapeAttributes(), name="flat", types=[TensorType(shape=(1, 144), batch_axis=0)])
    (y,) = b.add(Op.LINEAR, [y, parameter("v", constant_fill(0.5, (10, 144)))], at.LinearAttributes(), name="head")
    return b.finish([y])


def test_every_operator_has_a_row_heaviest_first():
    found = coverage_of(odd_network())
    elements = {
        "conv": 192 + 108 + 144, "linear": 144 + 1440 + 10, "Bar": 4 * 144, "Foo": 4 * 144, "activation": 288, "reshape": 0,
    }  # fmt: skip
    macs = {"conv": 36 * 27 * 4, "linear": 1440, "activation": 0, "reshape": 0, "Foo": None, "Bar": None}
    assert [row["op"] for row in found.by_op] == ["conv", "linear", "Bar", "Foo", "activation", "reshape"]
    total = sum(elements.values())
    for row in found.by_op:
        op = row["op"]
        assert (row["bytes"], row["macs"], row["priced"]) == (4 * elements[op], macs[op], op not in ("Foo", "Bar"))
        assert row["bytes_share"] == pytest.approx(elements[op] / total)
        assert row["macs_share"] == (None if macs[op] is None else pytest.approx(macs[op] / (36 * 27 * 4 + 1440)))
    assert {row["op"]: (row["layers"], row["parameters"], row["weight_bytes"]) for row in found.by_op} == {
        "conv": (1, 108, 432), "linear": (1, 1440, 5760), "Bar": (1, 0, 0), "Foo": (2, 0, 0), "activation": (1, 0, 0),
        "reshape": (1, 0, 0),
    }  # fmt: skip
    opaque = 8 * 144
    assert found.bytes_priced == pytest.approx(1 - opaque / total)
    assert found.macs_priced == pytest.approx(1 - opaque / (opaque + elements["conv"] + elements["linear"]))
    assert sum(row["bytes_share"] for row in found.by_op) == pytest.approx(1)


def test_everything_not_understood_is_listed_with_place_share_and_reason_heaviest_first():
    found = coverage_of(odd_network())
    total = sum(row["bytes"] for row in found.by_op)
    listed = [(u["op"], u["layer"], u["where"], u["reason"]) for u in found.unsupported]
    assert listed == [
        ("Bar", "bar", "net.py:4", "its mode is odd"),
        ("Foo", "foo1", "net.py:3", "no such operator here"),
        ("Foo", "foo2", "net.py:5", "no such operator here"),
    ]
    assert [u["bytes_share"] for u in found.unsupported] == pytest.approx([4 * 576 / total] + [4 * 288 / total] * 2)
    assert found.notes == (UNKNOWN_MACS,)


def test_shares_are_unknown_where_a_size_is():
    found = coverage_of(replace(odd_network(), unsupported=(Unsupported(op="Baz", layer="gone", where="node 7"),)))
    assert (found.macs_priced, found.bytes_priced) == (None, None)
    assert found.unsupported[0]["bytes_share"] is None
    assert found.notes == (
        "sizes are unknown for some operators that are not understood: shares of the whole cannot be given",
    )


def test_a_shared_tensor_counts_once():
    b = NetworkBuilder("shared")
    x = b.input("x", TensorType(shape=(1, 8), batch_axis=0))
    shared = parameter("w", constant_fill(0.5, (8, 8)))
    (y,) = b.add(Op.LINEAR, [x, shared], at.LinearAttributes(), name="one")
    (y,) = b.add(Op.LINEAR, [y, shared], at.LinearAttributes(), name="two")
    (row,) = coverage_of(b.finish([y])).by_op
    assert (row["layers"], row["parameters"], row["weight_bytes"], row["macs"]) == (2, 64, 256, 128)
    assert row["bytes"] == 4 * (8 + 64 + 8) * 2  # each layer reads it


def test_the_error_names_every_operator_and_where_to_see_every_place():
    network = odd_network()
    with pytest.raises(UnsupportedError) as caught:
        pj.evaluate(network, "edge-16x16")
    assert str(caught.value) == (
        "odd: cannot price 3 operator(s): Foo (2x: net.py:3 / net.py:5); Bar (1x: net.py:4). Replace them, or pass "
        "--allow-unsupported to price the rest and mark the result INCOMPLETE"
    )
    many = replace(network, unsupported=network.unsupported[:1] * 5)
    assert unsupported_sentence(many) == (
        "odd: cannot price 5 operator(s): Foo (5x: net.py:3 / net.py:3 / net.py:3 / ...) (`picojoule coverage` lists every "
        "place). Replace them, or pass --allow-unsupported to price the rest and mark the result INCOMPLETE"
    )


@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
def test_a_result_carries_the_same_rows_at_its_formats_and_batch(hardware):
    report = pj.evaluate(odd_network(), hardware, batch=3, allow_unsupported=True)
    by_op = {row["op"]: row for row in report.to_dict()["coverage"]["by_op"]}
    width = {"edge-16x16": 1, "isaac": 2}[hardware]
    assert by_op["activation"]["bytes"] == 3 * width * 288
    assert by_op["conv"]["bytes"] == width * (3 * 192 + 108 + 3 * 144)
    assert sum(row["macs"] or 0 for row in by_op.values()) == report.totals["macs"] == 3 * (36 * 27 * 4 + 1440)
    assert [row["complete"] for row in report.layer_rows()] == [False] * 7
