"""A network with quantisers costs what the same network costs at their formats: changing a format moves nothing."""

from dataclasses import replace

import numpy as np
import pytest

import picojoule as pj
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.formats import Granularity, parse_format
from picojoule.sim.hardware import load_hardware, presets
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill

WINDOW = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
INT8, PER_CHANNEL = parse_format("int8"), replace(parse_format("int8"), per=Granularity.CHANNEL)
STYLES = ("pairs", "fakes", "stated pairs")


def quantised(builder, x, style):
    """Return x behind a quantiser and its inverse, or a fake quantiser; `style` None leaves it out."""
    if style is None:
        return x
    scale = constant("scale", np.float32(0.05))
    form = INT8 if style.startswith("stated") else None
    for kind in ("fake",) if style == "fakes" else ("quantize", "dequantize"):
        attributes = at.QuantizeAttributes(kind=at.QuantizeKind(kind), low=-127, high=127)
        (x,) = builder.add(Op.QUANTIZE, [replace(x, format=form), scale], attributes, name=kind, formats=[form])
    return x


def network_of(style):
    """Return conv -> relu -> residual conv -> add -> pool -> linear with quantisers wherever a layer multiplies."""
    builder = NetworkBuilder("quantised")
    stated = style is not None and style.startswith("stated")

    def multiply(op, x, shape, attributes, name):
        weight = parameter(f"{name}.w", constant_fill(0.5, shape))
        if stated:
            weight = replace(weight, format=PER_CHANNEL)
        (y,) = builder.add(op, [quantised(builder, x, style), weight], attributes, name=name)
        return y

    def relu(x, name):
        attributes = at.ActivationAttributes(kind=at.ActivationKind.RELU)
        return builder.add(Op.ACTIVATION, [quantised(builder, x, style)], attributes, name=name)[0]

    x = builder.input("x", TensorType(shape=(1, 8, 12, 12), batch_axis=0))
    x = relu(multiply(Op.CONV, x, (16, 8, 3, 3), WINDOW, "conv1"), "relu1")
    y = relu(multiply(Op.CONV, x, (16, 16, 3, 3), WINDOW, "conv2"), "relu2")
    (y,) = builder.add(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")
    (y,) = builder.add(
        Op.REDUCE, [y], at.ReduceAttributes(kind=at.ReduceKind.MEAN, axes=(2, 3), keepdims=False), name="pool"
    )
    return builder.finish([multiply(Op.LINEAR, y, (10, 16), at.LinearAttributes(), "fc")])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("hardware", sorted(presets()))
def test_quantisers_change_no_cost(hardware, batch, style):
    by_weights = {"adc_bits": 10} if hardware == "isaac-differential-2b" else {}  # the network has shapes only
    accelerator = load_hardware(hardware, {"weight_bits": 8, "activation_bits": 8, **by_weights})
    plain, ours = (accelerator.evaluate(network_of(s), batch=batch) for s in (None, style))
    assert ours.totals["energy_pj"] == pytest.approx(plain.totals["energy_pj"], rel=1e-12)
    assert ours.totals["latency_s"] == pytest.approx(plain.totals["latency_s"], rel=1e-12)
    assert ours.totals["interval_s"] == pytest.approx(plain.totals["interval_s"], rel=1e-12)
    rows = {row.name: row for row in ours.layers}
    for row in plain.layers:
        assert rows[row.name].energy_pj == pytest.approx(row.energy_pj, rel=1e-12), row.name
        assert rows[row.name].basis == row.basis, row.name
    assert all(
        r.energy_pj == r.latency_s == 0 for name, r in rows.items() if name.startswith(("quant", "dequant", "fake"))
    )


def test_a_quantiser_of_few_bits_saves_the_traffic_of_what_feeds_it():
    def network(form):
        builder = NetworkBuilder("narrow")
        x = builder.input("x", TensorType(shape=(1, 8, 12, 12), batch_axis=0))
        (x,) = builder.add(Op.CONV, [x, parameter("w", constant_fill(0.5, (16, 8, 3, 3)))], WINDOW, name="conv")
        attributes = at.QuantizeAttributes(kind=at.QuantizeKind.FAKE, low=0, high=15)
        (x,) = builder.add(Op.QUANTIZE, [x, constant("scale", np.float32(0.1))], attributes, name="fake")
        x = replace(x, format=parse_format(form))
        return builder.finish(
            builder.add(Op.CONV, [x, parameter("w2", constant_fill(0.5, (4, 16, 1, 1)))],
                        replace(WINDOW, padding_begin=(0, 0), padding_end=(0, 0)), name="next")
        )  # fmt: skip

    wide, narrow = (pj.evaluate(network(form), "edge-16x16").layers[0] for form in ("uint8", "uint4"))
    assert narrow.dram_write_bytes == wide.dram_write_bytes // 2


def test_a_dynamic_quantiser_reads_twice_and_works():
    builder = NetworkBuilder("dynamic")
    x = builder.input("x", TensorType(shape=(1, 1000), batch_axis=0))
    attributes = at.QuantizeAttributes(kind=at.QuantizeKind.DYNAMIC, low=0, high=255)
    network = builder.finish(builder.add(Op.QUANTIZE, [x], attributes, name="dynamic"))
    (row,) = pj.evaluate(network, "edge-16x16").layers
    assert (row.unit, row.dram_read_bytes, row.dram_write_bytes) == ("vector", 2000, 1002)
    assert row.compute_cycles == 6 * 1000 // 16 and row.energy_pj > 0
