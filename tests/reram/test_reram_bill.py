"""One layer on ISAAC billed by hand, component by component, and one product on its digital unit."""

import pytest

from picojoule.reram import ReramAccelerator
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import constant
from picojoule.sim.weights import constant_fill

C, SIZE, BATCH = 8, 4, 3
PLAIN = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))
EIGHT = {"weight_bits": 8, "activation_bits": 8}


def conv_network():
    builder = NetworkBuilder("one conv")
    x = builder.input("x", TensorType(shape=(1, C, SIZE, SIZE), batch_axis=0))
    (y,) = builder.add(Op.CONV, [x, parameter("w", constant_fill(0.5, (C, C, 1, 1)))], PLAIN, name="conv")
    return builder.finish([y])


def test_every_component_of_one_layer_by_hand():
    report = load_hardware("isaac", EIGHT).evaluate(conv_network(), batch=BATCH)
    pixels = SIZE * SIZE * BATCH
    steps, slices = 8, 4  # one input bit a step, two weight bits a cell
    reads = steps * pixels
    codes = C * slices * reads
    outputs = C * pixels
    bits = 8 * C * pixels
    expected = {
        "adc": codes * 1.5625,  # 2 mW / 1.28 GS/s
        "dac": C * reads * 0.39,
        "sample_hold": C * slices * reads * constant("isaac.sample_hold.sample").value,
        "crossbar": C * C * slices / 128**2 * reads * 30.0,  # 0.3 mW x 100 ns for a whole crossbar
        # Two codes a step; then the stored offset times the sum of inputs is formed (a step an input) and taken off.
        "shift_add": (codes / 2 + C * pixels + outputs) * constant("isaac.shift_add.step").value,
        "input_register": C * reads * 0.121,
        "output_register": outputs * 16 * steps * 0.0112,
        "edram": 2 * bits * 20.45 / 256,  # windows read, results written; 20.45 pJ for 256 bits
        "bus": 2 * bits * 0.054,
        "router": 2 * bits * 20.74 / 256,  # on its way to and from the link
        "link": 2 * bits / 128 * 26.0,  # the input comes from outside, the output goes there
    }
    bill = report.energy_by_component()
    static = bill.pop("leakage")
    assert set(bill) == set(expected)
    for component, pj in expected.items():
        assert bill[component] == pytest.approx(pj, rel=2e-3), component  # sources print three digits
    tile_mm2 = 0.37229  # the tile of ISAAC's table; our vector lanes come on top
    used = static / (12.6 * report.totals["latency_s"] * 1e9)
    assert tile_mm2 < used < tile_mm2 + 0.01


def test_a_product_of_activations_by_hand():
    builder = NetworkBuilder("product")
    a = builder.input("a", TensorType(shape=(1, 32, 64), batch_axis=0))
    b = builder.input("b", TensorType(shape=(1, 64, 32), batch_axis=0))
    (y,) = builder.add(Op.MATMUL, [a, b], at.MatmulAttributes(), name="product")
    report = load_hardware("isaac", EIGHT).evaluate(builder.finish([y]))
    bill = report.energy_by_component()
    macs = 32 * 64 * 32
    at_32nm = 0.654  # energy relative to 45 nm (Stillmaker and Baas, high-performance devices at 0.9 V)
    assert bill["vector"] == pytest.approx(macs * (0.2 + 0.1) * at_32nm, rel=2e-3)
    bits = 8 * (2 * 32 * 64 + 32 * 32)
    assert bill["edram"] == pytest.approx(bits * 20.45 / 256, rel=2e-3)
    assert report.layers[0].unit == "vector"


def test_a_second_tile_pays_the_router():
    builder = NetworkBuilder("two tiles")
    x = builder.input("x", TensorType(shape=(1, 128 * 12 * 8), batch_axis=0))
    for i, (out, into) in enumerate(((128, 128 * 12 * 8), (64, 128))):
        weight = parameter(f"w{i}", constant_fill(0.5, (out, into)))
        (x,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name=f"fc{i}")
    report = load_hardware("isaac", EIGHT).evaluate(builder.finish([x]))
    second = {line.component: line.pj for line in report.layers[1].energy}
    # 128 values of 8 bits come from the first layer's tiles, 64 leave for the link; 20.74 pJ carry 256 bits one hop.
    assert second["router"] == pytest.approx((128 + 64) * 8 * 20.74 / 256, rel=2e-3)


def test_the_accelerator_is_the_one_the_preset_names():
    assert isinstance(load_hardware("isaac"), ReramAccelerator)
