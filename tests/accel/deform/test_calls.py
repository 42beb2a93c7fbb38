"""How layers become calls: passes, strips, partial sums, and that no product is lost on the way."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.deform.calls import cycles_of, lowered_calls, pointwise_calls, window_calls
from picojoule.accel.deform.cycles import Access
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InfeasibleError
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill

SPEC = DeformSpec(name="board")


def conv(inputs, outputs, size, kernel=3, *, stride=1, padding=None, groups=1, dilation=1):
    builder = NetworkBuilder("net")
    x = builder.input("x", TensorType(shape=(1, inputs, *size), batch_axis=0))
    w = parameter("w", constant_fill(0.5, (outputs, inputs // groups, kernel, kernel)))
    pad = dilation * (kernel - 1) // 2 if padding is None else padding
    attributes = ConvAttributes(
        stride=(stride, stride), padding_begin=(pad, pad), padding_end=(pad, pad), dilation=(dilation, dilation),
        groups=groups,
    )  # fmt: skip
    return builder.finish(builder.add(Op.CONV, [x, w], attributes, name="conv")).layers[0]


def depthwise_calls(channels, size, spec=SPEC, *, reach=1, fused=None, stride=1, batch=1):
    layer = conv(channels, channels, size, groups=channels, stride=stride)
    return window_calls(layer, batch, spec, access=Access.ORDINARY, reach=reach, fused_inputs=fused)


def test_more_outputs_than_a_pass_has_take_passes():
    assert [(c.out_channels, c.count) for c in pointwise_calls(64, 512, 1024, SPEC)] == [(512, 2)]
    assert [(c.out_channels, c.count) for c in pointwise_calls(64, 16, 1100, SPEC)] == [(512, 2), (76, 1)]
    assert [(c.in_channels, c.out_channels, c.count) for c in depthwise_calls(1024, (8, 8))] == [(512, 512, 2)]


def test_weights_beyond_the_buffer_take_passes_and_then_partial_sums():
    calls = pointwise_calls(1, 4096, 512, SPEC)  # 256 KiB of 4 bits hold 128 outputs of 4096 inputs
    assert [(c.in_channels, c.out_channels, c.count, c.reads_sums) for c in calls] == [(4096, 128, 4, False)]
    small = DeformSpec(weight_buffer_kib=1)  # 16 outputs of 128 inputs
    calls = pointwise_calls(1, 300, 16, small)
    assert [(c.in_channels, c.count, c.reads_sums, c.writes_sums) for c in calls] == [
        (128, 1, False, True), (128, 1, True, True), (44, 1, True, False),
    ]  # fmt: skip


def test_a_row_of_the_line_buffer_bounds_channels_and_a_call_bounds_rows_and_columns():
    (call,) = depthwise_calls(512, (4, 512))  # 16384 bytes hold 32 channels of 512 columns
    assert (call.out_channels, call.count, call.pixels) == (32, 16, 4 * 512)
    (call,) = depthwise_calls(16, (1000, 100))  # strips of 512 rows share one on either side
    assert (call.count, call.pixels, call.out_pixels) == (2, 501 * 100, 50_000)
    (call,) = depthwise_calls(16, (1000, 100), reach=7)
    assert (call.count, call.pixels) == (3, 343 * 100)  # 498 rows of a strip are its own
    (call,) = pointwise_calls(512 * 512 + 1, 3, 3, SPEC)
    assert (call.count, call.pixels) == (2, 131_073)


def test_a_fused_call_reads_all_inputs_in_every_pass():
    (call,) = depthwise_calls(1024, (8, 8), fused=64, stride=2)
    assert (call.in_channels, call.out_channels, call.count, call.pixels, call.out_pixels) == (64, 512, 2, 64, 16)
    assert call.pointwise and call.window
    (call,) = depthwise_calls(64, (8, 8), batch=3)
    assert call.count == 3  # a call is one image


def test_strips_that_share_more_rows_than_they_have_are_refused():
    with pytest.raises(InfeasibleError) as caught:
        depthwise_calls(16, (40, 4), DeformSpec(name="board", max_side=14), reach=7)
    assert str(caught.value) == (
        "layer 'conv': a map of 40 rows or columns needs strips of more than 14 but a call of 'board' holds 14; raise "
        "max_side and line_buffer_row_bytes or bound the offsets"
    )


def test_a_3x3_convolution_is_nine_shifted_calls_with_sums_between():
    calls = lowered_calls(conv(16, 32, (8, 8), stride=2), 1, SPEC)
    assert [(c.reads_sums, c.writes_sums, c.count) for c in calls] == [
        (False, True, 1), (True, True, 7), (True, False, 1),
    ]  # fmt: skip
    assert {c.pixels for c in calls} == {16}  # only the pixels that are used
    (call,) = lowered_calls(conv(16, 32, (8, 8), kernel=1, stride=2), 1, SPEC)
    assert (call.pixels, call.reads_sums, call.writes_sums, call.count) == (16, False, False, 1)


def test_groups_run_apart_or_with_zeros_between_whichever_is_faster():
    together = lowered_calls(conv(32, 32, (8, 8), groups=2), 1, SPEC)  # calls cost more than zeros
    assert {c.in_channels for c in together} == {32}
    apart = lowered_calls(conv(1024, 512, (32, 32), groups=2), 1, DeformSpec(call_cycles=0))
    assert {c.in_channels for c in apart} == {512} and sum(c.count for c in apart) == 18


@given(
    st.integers(1, 700), st.integers(1, 1200), st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]),
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.sampled_from([0.5, 4, 256]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_product_is_lost_and_sums_balance(inputs, outputs, kernel, stride, rows, cols, batch, kib):
    layer = conv(inputs, outputs, (rows, cols), kernel, stride=stride, padding=kernel // 2)
    spec = DeformSpec(weight_buffer_kib=kib, max_side=4)
    calls = lowered_calls(layer, batch, spec)
    pixels = batch * prod(layer.results[0].shape[2:])
    products = sum(c.count * c.pixels * c.in_channels * c.out_channels for c in calls)
    exact = pixels * inputs * outputs * kernel**2
    strips = -(-pixels // 16)
    assert exact <= products <= exact * -(-pixels // strips) * strips / pixels + 1e-6  # the last strip may be padded
    moved = sum(c.count * c.out_pixels * c.out_channels * (c.writes_sums - c.reads_sums) for c in calls)
    assert moved == 0  # every partial sum that is written is read once
    finished = sum(c.count * c.out_pixels * c.out_channels for c in calls if not c.writes_sums)
    assert finished >= pixels * outputs
    total = sum(int(t) * c.count for t, c in zip(cycles_of(calls, spec).total, calls, strict=True))
    assert total * 256 >= exact
