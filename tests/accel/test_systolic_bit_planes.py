"""Bit planes: exactly the integer product at all widths, cycles that scale with bits, storage to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.systolic._bit_plane_kernels import packed, plane_product
from picojoule.accel.systolic.bit_planes import (
    PlaneProduct,
    PlaneProgrammer,
    Planes,
    narrowing,
    plane_mac_energy_pj,
    plane_step_energy_pj,
    planes_of,
)
from picojoule.sim import technology as tech
from picojoule.sim.errors import InputError
from picojoule.sim.formats import parse_format

BITS = st.integers(1, 10)


def draw_codes(rng, planes, shape):
    """Codes over the whole range, its ends included."""
    low, high = planes.range
    codes = rng.integers(low, high + 1, shape)
    if planes.offset:
        codes = np.where(codes >= 0, 1, -1)
    codes.flat[0], codes.flat[-1] = low, high
    return codes


@settings(max_examples=150, deadline=None)
@given(
    w=BITS, x=BITS, signs=st.tuples(st.booleans(), st.booleans()), seed=st.integers(0, 2**32 - 1), serial=st.booleans()
)
def test_planes_give_the_integer_product_at_every_width_and_sign(w, x, signs, seed, serial):
    rng = np.random.default_rng(seed)
    out, length, batch = rng.integers(1, [6, 150, 6])
    planes = Planes(bits=w, signed=signs[0]), Planes(bits=x, signed=signs[1])
    weights, inputs = draw_codes(rng, planes[0], (out, length)), draw_codes(rng, planes[1], (length, batch))
    made = PlaneProduct(weights, *planes, serial=serial).matmul(inputs)
    assert made.dtype == np.float64
    assert np.array_equal(made, weights @ inputs)


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("weight", ["binary", "ternary", "int2", "int8", "uint1", "planes3"])
@pytest.mark.parametrize("activation", ["binary", "ternary", "uint8", "int5"])
def test_every_integer_format_is_cut_right(weight, activation, serial):
    rng = np.random.default_rng(3)
    forms = parse_format(weight), parse_format(activation)
    weights, inputs = (draw_codes(rng, planes_of(f), s) for f, s in zip(forms, ((4, 70), (70, 5)), strict=True))
    product = PlaneProgrammer(weight=forms[0], activation=forms[1], serial=serial)(weights, group=1)
    assert product.exact
    assert np.array_equal(product.matmul(inputs), weights @ inputs)


def test_kernels_equal_their_numpy_twins():
    rng = np.random.default_rng(4)
    w, x = rng.integers(-8, 8, (3, 130)), rng.integers(0, 32, (4, 130))
    words = packed(w, 4)
    assert words.shape == (4, 3, 3)
    bits = (w[None] >> np.arange(4)[:, None, None]) & 1
    padded = np.zeros((4, 3, 192), dtype=np.uint8)
    padded[:, :, :130] = bits
    assert words.tobytes() == np.packbits(padded, axis=2, bitorder="little").tobytes()
    values_w, values_x = np.array([1, 2, 4, -8]), np.array([1, 2, 4, 8, 16])
    cut = (x[None] >> np.arange(5)[:, None, None]) & 1
    twin = np.einsum("pok,qbk,p,q->ob", bits, cut, values_w, values_x)
    assert np.array_equal(plane_product(words, values_w, packed(x, 5), values_x), twin)
    assert np.array_equal(twin, w @ x.T)


def test_codes_outside_their_format_and_sums_beyond_float64_are_refused():
    int4, uint8 = parse_format("int4"), parse_format("uint8")
    product = PlaneProgrammer(weight=int4, activation=uint8, name="fc")(np.full((2, 3), -8))
    with pytest.raises(InputError) as caught:
        product.matmul(np.full((3, 1), 256))
    assert str(caught.value) == "fc: inputs of 8 unsigned bits lie between 0 and 255, got 256 to 256"
    wide = PlaneProduct(
        np.zeros((1, 1 << 8), dtype=np.int64), Planes(bits=24, signed=True), Planes(bits=24, signed=True)
    )
    with pytest.raises(InputError, match=r"256 products of 24 x 24 bits may leave 2\^53"):
        wide.matmul(np.zeros((1 << 8, 1)))
    with pytest.raises(InputError, match="bit planes need an integer format, got bf16"):
        planes_of(parse_format("bf16"))


def test_storage_is_the_bits_of_the_weights():
    assert [planes_of(parse_format(f)).stored_bits(1000) for f in ("int4", "int3", "binary", "ternary")] == [
        4000, 3000, 1000, 2000
    ]  # fmt: skip
    weights = np.where(np.random.default_rng(0).random((16, 64)) < 0.5, -1, 1)
    planes = planes_of(parse_format("binary"))
    assert packed(planes.stored(weights), planes.bits).nbytes * 8 == weights.size


def test_cycles_and_energy_scale_with_both_widths():
    assert narrowing("bit_serial", 5, 8) == (1, 5)
    assert narrowing("bit_plane", 5, 3) == (64, 15)
    assert narrowing("bit_plane", 8, 8) == (64, 64)  # as fast as an int8 PE
    int8 = plane_mac_energy_pj(8, 8, 64, 32, 45.0)
    assert sum(int8.values()) == pytest.approx(0.2 + 0.1)  # the multiplier's gates and one addition, as in an int8 PE
    assert sum(plane_mac_energy_pj(2, 4, 64, 32, 45.0).values()) == pytest.approx(0.3 / 8)
    assert sum(plane_step_energy_pj(128, 16, 45.0).values()) == pytest.approx(0.4 + 0.05)
    scaled = plane_step_energy_pj(64, 32, 32.0)
    assert sum(scaled.values()) == pytest.approx(0.3 * float(tech.logic_energy_scale(45, 32.0)))
    assert set(scaled) == {f"{n}*scaling.logic.near" for n in ("mac.int8.multiply.45nm", "mac.int32.add.45nm")}


def test_a_network_runs_through_its_planes(tmp_path):
    """The executor takes the exact routine when it may; forced through the planes, every result is the same."""
    import picojoule as pj
    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.executor import Executor
    from picojoule.sim.passes import fill_formats
    from picojoule.sim.protocol import FLOAT, Arithmetic

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(6, 6, 3, groups=3), torch.nn.Flatten(),
        torch.nn.Linear(96, 5),
    )  # fmt: skip
    x = torch.randn(3, 2, 6, 6)
    int3, int5 = parse_format("int3", per="channel"), parse_format("int5")
    network, _ = fill_formats(pj.trace(module, (x,)), int3, int5)
    placed = []

    def through(layer, program):
        if len(layer.operands) < 2:
            return FLOAT
        return Arithmetic(weight=int3, activation=int5, accumulator_bits=32, program=program)

    def run(exact, serial):
        programmer = PlaneProgrammer(weight=int3, activation=int5, serial=serial, exact=exact)

        def program(weights, group=0):
            placed.append((exact, group))
            return programmer(weights, group)

        arithmetic = lambda layer: through(layer, program)  # noqa: E731
        calibration = calibrate(network, [[x]], arithmetic)
        with torch.no_grad():
            return Executor(network, arithmetic=arithmetic, calibration=calibration).run([x])[0]

    fast = run(exact=True, serial=False)
    assert torch.equal(fast, run(exact=False, serial=False))
    assert torch.equal(fast, run(exact=False, serial=True))
    assert (False, 2) in placed
    assert replace(PlaneProgrammer(weight=int3, activation=int5), exact=False).exact is False


PLAN = """
schema: 1
layers:
  "0": {weight: {format: int2}, activation: {format: uint8}}
  "1": {weight: {format: int4}, activation: {format: uint8}}
  "2": {weight: {format: int6}, activation: {format: uint4}}
  "3": {weight: {format: int8}, activation: {format: uint8}}
"""


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_cycles_of_a_mixed_plan_scale_with_its_bits(dataflow, tmp_path):
    """Four equal layers of 2, 4, 6 and 8 bits: what streams takes twice, three, four times as long, loads and skew do not."""
    import picojoule as pj
    from picojoule.accel.systolic import SystolicArray, SystolicSpec, timing
    from picojoule.compress.plan import apply_plan, read_plan

    (tmp_path / "plan.yaml").write_text(PLAN)
    module = torch.nn.Sequential(*[torch.nn.Linear(128, 128, bias=False) for _ in range(4)])
    network = apply_plan(pj.trace(module, (torch.randn(2, 10, 128),)), read_plan(tmp_path / "plan.yaml"))
    spec = SystolicSpec(rows=8, cols=8, dataflow=dataflow, precision="bit_serial")
    cycles = [layer.compute_cycles for layer in SystolicArray(spec).evaluate(network).layers]
    steps = {cycles[i + 1] - cycles[i] for i in range(3)}
    assert len(steps) == 1
    assert steps.pop() > 0
    # The same sizes on bit planes: reduction cut by the lanes, stream stretched by both widths.
    flow, m, made = timing.Dataflow.of(dataflow), 10, []
    for w, a in ((2, 8), (4, 8), (6, 4), (8, 8)):
        lanes, serial = narrowing("bit_plane", w, a)
        streams = {"os": (m, 128, 128 // lanes * serial), "ws": (m * serial, 128, 128 // lanes)}
        sizes = streams.get(dataflow, (m, 128 * serial, 128 // lanes))
        made.append(int(timing.fold_cycles(flow, 8, 8, *sizes)))
    assert (
        made[1] - made[0] == made[3] - made[1] - (made[1] - made[0]) > 0
    )  # 16, 32 and 64 steps: as far apart as the steps
    assert made[2] - made[0] == (made[1] - made[0]) // 2  # 24 steps


def test_codes_that_are_not_those_of_their_format_are_refused():
    binary, int8 = planes_of(parse_format("binary")), planes_of(parse_format("int8"))
    product = PlaneProduct(np.array([[1, 0]]), binary, int8)
    with pytest.raises(InputError, match="weights of one bit that stands for -1 or 1 hold another code"):
        product.matmul(np.ones((2, 3)))
    product = PlaneProduct(np.array([[1, -1]]), binary, int8)
    with pytest.raises(InputError, match="bit planes multiply whole numbers, and some of the inputs are not"):
        product.matmul(np.array([[0.5], [1.0]]))
    with pytest.raises(InputError, match="whole numbers"):
        product.matmul(np.array([[np.inf], [1.0]]))
    assert product.matmul(np.array([[3.0], [1.0]])).tolist() == [[2.0]]
