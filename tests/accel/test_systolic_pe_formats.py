"""What the PEs of each format multiply, how the executor computes it, and what a mismatch says."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from picojoule.accel.systolic import pe_formats
from picojoule.accel.systolic.pe_formats import (
    arithmetic_of,
    check_pe_format,
    native_formats,
    operand_formats,
    pe_widths,
)
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.sim import attributes as at
from picojoule.sim import technology as tech
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import TensorType
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.quantize import block_float, cast_float, power_of_two
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.weights import constant_fill

FORMATS = ("integer", "float", "ternary", "binary", "power_of_two", "block_float")


def linear(weight="", activation=""):
    builder = NetworkBuilder("linear")
    x = builder.input("x", TensorType(shape=(1, 24), batch_axis=0))
    x = replace(x, format=parse_format(activation)) if activation else x
    w = parameter("w", constant_fill(0.3, (6, 24)))
    w = replace(w, format=parse_format(weight)) if weight else w
    return builder.finish(builder.add(Op.LINEAR, [x, w], at.LinearAttributes(), name="fc"))


def product_of_activations():
    builder = NetworkBuilder("attention")
    x = builder.input("x", TensorType(shape=(1, 8, 8), batch_axis=0))
    return builder.finish(builder.add(Op.MATMUL, [x, x], at.MatmulAttributes(), name="qk"))


def refusal(error, weight, activation, **spec):
    (layer,) = linear(weight, activation).layers
    with pytest.raises(error) as caught:
        operand_formats(layer, SystolicSpec(name="chip", **spec))
    return str(caught.value)


@pytest.mark.parametrize("pe_format", FORMATS)
def test_a_network_without_formats_takes_the_pes_own(pe_format):
    spec = SystolicSpec(pe_format=pe_format)
    network = linear()
    assert operand_formats(network.layers[0], spec) == native_formats(spec)
    arithmetic = arithmetic_of(network.layers[0], spec)
    assert (arithmetic.weight, arithmetic.activation) == native_formats(spec)
    assert arithmetic.accumulator_bits == (32 if pe_format in ("integer", "ternary", "binary") else None)


@pytest.mark.parametrize(
    ("pe_format", "weight", "activation"),
    [
        ("integer", "int4", "uint8"),
        ("integer", "ternary", "int8"),
        ("integer", "binary", "binary"),
        ("integer", "planes4", "planes4"),
        ("float", "bf16", "bf16"),
        ("float", "fp8_e4m3", "fp8_e5m2"),
        ("ternary", "binary", "int8"),
        ("binary", "binary", "binary"),
        ("power_of_two", "pow2_4", "uint8"),
        ("block_float", "bfp6_b32", "bfp8_b16"),
    ],
)
def test_narrower_formats_of_the_same_kind_run(pe_format, weight, activation):
    made = operand_formats(linear(weight, activation).layers[0], SystolicSpec(pe_format=pe_format))
    assert [str(form) for form in made] == [weight, activation]


def test_a_mismatch_says_what_to_do():
    assert refusal(UnsupportedError, "bf16", "int8") == (
        "layer 'fc': weight format bf16 does not run on the integer PEs of 'chip'; quantise it to at most int8"
    )
    assert refusal(UnsupportedError, "int8", "int8", pe_format="float") == (
        "layer 'fc': weight format int8 does not run on the float PEs of 'chip'; use bf16 or set pe_format=integer"
    )
    assert refusal(UnsupportedError, "codebook4", "bf16", pe_format="float") == (
        "layer 'fc': weight format codebook4 does not run on the float PEs of 'chip'; use bf16"
    )
    assert refusal(UnsupportedError, "int4", "int8", pe_format="ternary") == (
        "layer 'fc': weight format int4 does not run on the ternary PEs of 'chip'; use ternary or set pe_format=integer"
    )
    assert refusal(UnsupportedError, "pow2_4", "fp16", pe_format="power_of_two") == (
        "layer 'fc': activation format fp16 does not run on the power-of-two PEs of 'chip'; use int8 or set pe_format=float"
    )
    assert refusal(UnsupportedError, "bfp8_b8", "bfp8_b16", pe_format="block_float") == (
        "layer 'fc': weight format bfp8_b8 has blocks of 8 but the PEs of 'chip' share an exponent among 16; "
        "use multiples of 16"
    )
    assert refusal(InfeasibleError, "fp16", "bf16", pe_format="float") == (
        "layer 'fc': weight format fp16 does not fit the bf16 of the PEs of 'chip'; "
        "set float_format to a wider one or cast to bf16"
    )
    assert refusal(InfeasibleError, "bf16", "fp16", pe_format="float", float_format="fp16").startswith(
        "layer 'fc': weight format bf16 does not fit the fp16 of"
    )
    assert refusal(InfeasibleError, "int8", "uint16") == (
        "layer 'fc': activation format uint16 needs 16 bits but the PEs of 'chip' have 8; "
        "set activation_bits=16 or use fewer bits"
    )
    assert refusal(InfeasibleError, "pow2_9", "int8", pe_format="power_of_two").endswith(
        "set weight_bits=9 or use fewer bits"
    )


def test_products_of_two_activations_need_pes_for_them():
    (layer,) = product_of_activations().layers
    for pe_format in ("integer", "float", "block_float"):
        assert operand_formats(layer, SystolicSpec(pe_format=pe_format))
    with pytest.raises(UnsupportedError, match=r"^layer 'qk': weight format int8 does not run on the ternary PEs"):
        operand_formats(layer, SystolicSpec(pe_format="ternary"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"pe_format": "float", "precision": "bit_serial"},
            "systolic: precision=bit_serial takes integers apart, but pe_format is float; use precision: fixed",
        ),
        (
            {"pe_format": "block_float", "accumulator_bits": 24},
            "systolic: accumulator_bits must be 32 for pe_format block_float, which adds in fp32, got 24",
        ),
        (
            {"pe_format": "power_of_two", "weight_bits": 20},
            "systolic: weight_bits must be at most 16 for pe_format power_of_two, got 20",
        ),
        (
            {"precision": "bit_plane", "datapath_energy": "toggles"},
            "systolic: datapath_energy=toggles prices the flips of a multiplier, which precision=bit_plane has not; use "
            "datapath_energy: average",
        ),
        (
            {"pe_format": "ternary", "datapath_energy": "toggles"},
            "systolic: datapath_energy=toggles counts bits of integers, but pe_format is ternary",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(spec, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check_pe_format(SystolicSpec(**spec))
    check_pe_format(SystolicSpec())


def test_registers_hold_what_the_pe_multiplies():
    def widths(**spec):
        made = pe_widths(SystolicSpec(**spec))
        return made.weight, made.activation, made.accumulator

    assert widths(weight_bits=4, accumulator_bits=20) == (4, 8, 20)
    assert widths(pe_format="float", float_format="fp8_e4m3") == (8, 8, 32)
    assert widths(pe_format="ternary") == (2, 8, 32) and widths(pe_format="binary") == (1, 8, 32)
    assert widths(pe_format="block_float") == (8.5, 8.5, 32)
    assert pe_formats.exponent_share(parse_format("bfp8_b16"), 33) == 3 * 8 / 33
    assert pe_formats.exponent_share(parse_format("bfp8_b16"), 1) == 8
    assert pe_formats.exponent_share(parse_format("int8"), 33) == 0


def test_prices_are_those_of_the_format():
    def pj(w=8, a=8, **spec):
        return float(pe_formats.mac_energy(SystolicSpec(**spec), w, a).energy_pj)

    assert pj() == pj(4, 4) == pytest.approx(0.3)  # fixed PEs: few bits save nothing
    assert pj(4, 4, precision="decomposable") == pytest.approx(
        float(tech.multiply_add_energy_pj(4, 4, 32, 45).energy_pj)
    )
    step = float(tech.signed_add_energy_pj(8, 32, 45).energy_pj)  # one selected addition per weight bit
    assert (pj(4, 4, precision="bit_serial"), pj(8, 8, precision="bit_serial")) == pytest.approx((4 * step, 8 * step))
    assert pj(8, 8, precision="bit_plane") == pytest.approx(0.2 + 0.1)  # 64 steps of 64 lanes for 64 MACs
    assert pj(4, 2, precision="bit_plane") == pytest.approx((0.2 + 0.1) / 8)
    assert pj(pe_format="float", float_format="fp32") == pytest.approx(4.6)
    assert pj(pe_format="float", float_format="fp16") == pytest.approx(1.1 + 0.9)
    assert pj(pe_format="ternary") == float(tech.signed_add_energy_pj(8, 32, 45).energy_pj)


def test_areas_are_those_of_the_circuit():
    def um2(**spec):
        return pe_formats.mac_area(SystolicSpec(**spec))[1]

    assert um2(precision="bit_serial") == um2(pe_format="binary") < um2() / 2  # an adder and what selects
    multiply, add = (tech.constant(f"mac.{name}.area.45nm").value for name in ("int8.multiply", "int32.add"))
    assert um2(precision="bit_plane") == pytest.approx(multiply + add)
    assert um2(precision="bit_plane", plane_lanes=32) == pytest.approx(multiply / 2 + add)
    assert um2(precision="decomposable") == um2()


# --- execution ----------------------------------------------------------------------------------------------------------


def run(network, spec, x):
    def arithmetic(layer):
        return arithmetic_of(layer, spec)

    calibration = calibrate(network, [(x,)], arithmetic)
    with torch.no_grad():
        return Executor(network, arithmetic=arithmetic, calibration=calibration).run((x,))[0]


@pytest.mark.parametrize("pe_format", FORMATS)
def test_every_format_executes_near_the_float_product(pe_format):
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    y = run(linear(), SystolicSpec(pe_format=pe_format), x)
    exact = x @ torch.full((24, 6), 0.3)
    tolerance = (
        0.15 if pe_format == "power_of_two" else 0.02
    )  # 0.3 alone in its tensor is exact in all of them but pow2
    assert float((y - exact).norm() / exact.norm()) < tolerance


def block_float_twin(x, bits, block):
    """Round rows [n, k] block by block, one number at a time."""
    out = np.zeros_like(x)
    for i, row in enumerate(x):
        for start in range(0, len(row), block):
            part = row[start : start + block]
            top = max(abs(float(v)) for v in part)
            unit = 2.0 ** (math.floor(math.log2(max(top, 2.0**-126))) - (bits - 2))
            limit = 2 ** (bits - 1) - 1
            out[i, start : start + block] = [min(limit, max(-limit, round(float(v) / unit))) * unit for v in part]
    return out


@pytest.mark.parametrize(("bits", "block"), [(4, 16), (8, 16), (6, 5), (3, 64)])
def test_block_floats_equal_their_slow_twin(bits, block):
    x = np.random.default_rng(0).standard_t(2, (7, 37))
    x[3] = 0.0
    form = parse_format(f"bfp{bits}_b{block}")
    ours = block_float(torch.from_numpy(x), form, 1)
    np.testing.assert_array_equal(ours.numpy(), block_float_twin(x, bits, block))
    turned = block_float(torch.from_numpy(x.T.copy()), form, 0)
    np.testing.assert_array_equal(turned.numpy().T, ours.numpy())
    grouped = block_float(torch.from_numpy(x[:, :36]), form, 1, groups=3).numpy()
    parts = [block_float_twin(x[:, i : i + 12], bits, block) for i in (0, 12, 24)]
    np.testing.assert_array_equal(grouped, np.concatenate(parts, axis=1))


@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_of_a_grouped_convolution_lie_along_its_channels(transposed):
    torch.manual_seed(0)
    kind = torch.nn.ConvTranspose2d if transposed else torch.nn.Conv2d
    module = kind(40, 12, 3, groups=2, bias=False)
    x = torch.randn(2, 40, 6, 6)
    network, form = from_module(module, (x,)), parse_format("bfp5_b16")
    y = run(network, SystolicSpec(pe_format="block_float", weight_bits=5, activation_bits=5), x)
    halves = [x[:, :20], x[:, 20:]]
    rounded_x = torch.cat([block_float(half, form, 1) for half in halves], 1)
    if transposed:  # weights [in, out per group, ...]
        w = torch.cat([block_float(half, form, 0) for half in (module.weight[:20], module.weight[20:])], 0)
        expected = F.conv_transpose2d(rounded_x, w, groups=2)
    else:
        expected = F.conv2d(rounded_x, block_float(module.weight, form, 1), groups=2)
    torch.testing.assert_close(y, expected.detach(), rtol=1e-5, atol=1e-5)
    assert float((y - module(x)).detach().norm() / module(x).detach().norm()) > 0.005  # and it was rounded


def test_a_block_product_is_an_integer_product_and_two_exponents():
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.normal(size=(1, 16))) for _ in range(2))
    form = parse_format("bfp8_b16")
    exact = float((block_float(a, form, 1) * block_float(b, form, 1)).sum())
    units = [2.0 ** (math.floor(math.log2(float(v.abs().max()))) - 6) for v in (a, b)]
    mantissas = [
        np.rint((block_float(v, form, 1) / u).numpy()).astype(np.int64) for v, u in zip((a, b), units, strict=True)
    ]
    assert exact == float((mantissas[0] * mantissas[1]).sum()) * units[0] * units[1]


def test_gradients_pass_and_rounding_keeps_what_fits():
    x = torch.tensor([[1.0, -0.5, 0.25, 0.0]], requires_grad=True)
    y = block_float(x, parse_format("bfp4_b4"), 1)
    y.sum().backward()
    assert torch.equal(y.detach(), x.detach()) and torch.equal(x.grad, torch.ones_like(x))
    for form in ("bf16", "fp8_e4m3", "fp8_e5m2"):
        made = cast_float(torch.tensor([1.0, 0.375, -1.75]), parse_format(form))
        assert made.tolist() == [1.0, 0.375, -1.75]
    assert power_of_two(torch.tensor([0.3, 1.0]), torch.tensor(1.0), parse_format("pow2_4")).tolist() == [0.25, 1.0]
