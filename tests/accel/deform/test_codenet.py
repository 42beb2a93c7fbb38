"""CoDeNet on its published accelerator: its calls one by one, and the measured time of configuration a.

Source of the calls: the driver of the accelerator (Huang et al. 2021, arXiv 2006.08357). Source of the time: the measured
run of configuration a, which the overheads of loops and calls are calibrated on, so its agreement shows no more than that the
calibration is in place. Measured times of b to e are not used here.
"""

from functools import cache
from math import isqrt
from typing import Any

import pytest

import picojoule as pj
from picojoule.accel.deform.plan import Plan, plan_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.ir import Network

Call = tuple[int, int, int, bool, bool, int, bool]
"""Side of the map that enters, input and output channels, 1x1 engine, 3x3 engine, stride, whether offsets are used."""

CONFIGURATIONS = {"a": (64, False), "b": (64, False), "c": (128, False), "d": (128, True), "e": (128, True)}
DEFAULT = ("a",)
ALL = [x if x in DEFAULT else pytest.param(x, marks=pytest.mark.full) for x in CONFIGURATIONS]
PASS = 512  # output channels of a call
MEASURED_A_S = 19.73e-3


def published_calls(side: int, double: bool) -> list[Call]:
    widths = (32, 256, 512, 1024, 2048) if double else (32, 128, 256, 512, 1024)
    calls: list[Call] = []

    def call(inputs: int, outputs: int, one: bool, three: bool, stride: int = 1, offsets: bool = False) -> None:
        for first in range(0, outputs, PASS):
            size = min(PASS, outputs - first)
            calls.append((side, inputs if one else size, size, one, three, stride, offsets))

    channels = widths[0]
    for width, repeats in zip(widths[1:4], (3, 7, 3), strict=True):
        half = width // 2
        call(channels, channels, False, True, 2)
        side //= 2
        call(channels, half, True, False)
        side *= 2
        call(channels, half, True, True, 2)
        side //= 2
        call(half, half, True, False)
        for _ in range(repeats):
            call(half, half, True, True)
            call(half, half, True, False)
        channels = width
    call(widths[3], widths[4], True, False)
    channels = widths[4]
    for width in (256, 128, 128):
        call(channels, 1, True, False)
        call(channels, channels, False, True, offsets=True)
        if channels != width:
            call(channels, width, True, False)
        side, channels = 2 * side, width
    for outputs in (80, 2, 2):
        call(channels, outputs, True, True)
    return calls


@cache
def network_of(letter: str) -> Network:
    return pj.load(f"codenet-{letter}")


def derived_calls(plan: Plan) -> list[Call]:
    calls: list[Call] = []
    for job in plan.jobs:
        for call in job.calls:
            stride = isqrt(call.pixels // call.out_pixels)
            form = (call.in_channels, call.out_channels, call.pointwise, call.window, stride, job.sampling is not None)
            calls += [(isqrt(call.pixels), *form)] * call.count
    return calls


@pytest.mark.parametrize("letter", ALL)
def test_calls_are_the_published_ones(letter: str) -> None:
    spec = DeformSpec(first_layer="host")
    found = derived_calls(plan_of(network_of(letter), 1, spec))
    expected = published_calls(*CONFIGURATIONS[letter])
    assert len(expected) == (56 if letter in "de" else 52)
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        assert ours == theirs, f"call {index}"
    assert len(found) == len(expected)


@cache
def report_of(letter: str) -> dict[str, Any]:
    return pj.evaluate(network_of(letter), "ultra96-codenet").to_dict()


def test_the_measured_time_of_a_is_met() -> None:
    totals = report_of("a")["totals"]
    assert totals["accelerator_latency_s"] == pytest.approx(MEASURED_A_S, rel=0.01)
    assert totals["latency_s"] == pytest.approx(totals["accelerator_latency_s"] + totals["host_latency_s"])


def test_only_the_first_layer_and_layout_run_on_the_host() -> None:
    report = report_of("a")
    assert report["complete"] and not any("line buffer" in note for note in report["coverage"]["notes"])
    host = {y["op"] for y in report["layers"] if y["unit"] == "host" and y["latency_s"]}
    assert host <= {"conv", "activation", "concat", "split", "transpose", "reshape", "resize", "norm", "elementwise"}
    macs_on_host = sum(y["macs"] for y in report["layers"] if y["unit"] == "host")
    assert macs_on_host == 64 * 64 * 3 * 9 * 32  # the first layer
    assert all(y["unit"] != "host" for y in report["layers"] if y["op"] == "deform_conv")
