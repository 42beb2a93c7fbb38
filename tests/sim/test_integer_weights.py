"""The weights that converters are sized for are the ones the executor programs."""

from typing import Any

import numpy as np
import pytest
import torch

from picojoule.networks import load_network
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.formats import parse_format
from picojoule.sim.integer_weights import best_step, integer_weights
from picojoule.sim.ir import Layer, TensorType
from picojoule.sim.numerics.calibration import Calibration
from picojoule.sim.numerics.mac_layout import weight_matrices
from picojoule.sim.numerics.mac_ops import MacEngine
from picojoule.sim.numerics.quantize import best_step as torch_step
from picojoule.sim.weights import from_array

RNG = np.random.default_rng(3)


def a_conv(transposed: bool, groups: int) -> Layer:
    b = NetworkBuilder("n")
    x = b.input("x", TensorType(shape=(1, 8, 5, 5), batch_axis=0))
    shape = (8, 4, 3, 3) if transposed else (12, 8 // groups, 3, 3)
    a: dict[str, Any] = {"stride": (1, 1), "padding_begin": (1, 1), "padding_end": (1, 1), "dilation": (1, 1)}
    attributes = at.ConvAttributes(**a, groups=groups, transposed=transposed)
    w = parameter("w", from_array(RNG.normal(size=shape).astype("float32")))
    return b.finish(b.add(Op.CONV, [x, w], attributes, name="conv")).layers[0]


def a_product(op: Op) -> Layer:
    b = NetworkBuilder("n")
    x = b.input("x", TensorType(shape=(1, 3, 6, 8), batch_axis=0))
    shape = (3, 8, 5) if op is Op.MATMUL else (5, 8)
    w = parameter("w", from_array(RNG.standard_t(3, size=shape).astype("float32")))
    attributes = at.MatmulAttributes() if op is Op.MATMUL else at.LinearAttributes()
    return b.finish(b.add(op, [x, w], attributes, name="product")).layers[0]


@pytest.mark.parametrize("form", ["int8", "int9", "int4", "int4/channel", "int8/channel", "ternary", "binary"])
@pytest.mark.parametrize(
    "layer",
    [a_conv(False, 1), a_conv(False, 4), a_conv(True, 1), a_conv(True, 2), a_product(Op.LINEAR), a_product(Op.MATMUL)],
)
def test_codes_are_those_of_the_executor(layer: Layer, form: str) -> None:
    wanted = parse_format(form.split("/")[0])
    wanted = wanted.per_channel() if "/" in form else wanted
    engine = MacEngine(Calibration(quantizers={}))
    with torch.no_grad():
        codes, _ = engine._weight(layer, torch.from_numpy(np.array(layer.operands[1].weights.array())), wanted)  # type: ignore[union-attr]
    expected = np.rint(weight_matrices(layer, codes).numpy()).astype(np.int64)
    found = integer_weights(layer, wanted)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def test_steps_of_a_large_tensor_agree() -> None:
    w = RNG.standard_t(3, size=(64, 9000)).astype("float32")
    for bits, axis in ((8, None), (4, None), (4, 0)):
        form = parse_format(f"int{bits}")
        assert best_step(w, form, axis) == pytest.approx(torch_step(torch.from_numpy(w), form, axis).numpy(), rel=1e-6)


def test_steps_and_codes_of_a_network_are_those_of_the_executor_to_the_last_bit() -> None:
    largest = max(
        (layer for layer in load_network("mobilenet-v2").layers if layer.op is Op.CONV),
        key=lambda layer: layer.operands[1].type.elements(),
    )
    w = np.asarray(largest.operands[1].weights.array(), dtype=np.float32)  # type: ignore[union-attr]
    for bits in (5, 6, 7):
        form = parse_format(f"int{bits}")
        step = torch_step(torch.from_numpy(w), form).numpy()
        assert np.array_equal(best_step(w, form), step)
        expected = np.rint(np.clip(w / step, form.qmin, form.qmax)).astype(np.int64)
        assert np.array_equal(integer_weights(largest, form)[0], expected.reshape(len(w), -1))
