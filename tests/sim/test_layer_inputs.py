"""What hardware matrices see on calibration data, against windows cut out by hand in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.layer_inputs import layer_inputs
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic

INT8 = Arithmetic(weight=integer_format(8), activation=integer_format(8))


def refuse(weights):
    raise AssertionError("only formats are wanted: nothing is programmed")


HARDWARE = replace(INT8, program=refuse)


def inputs_of(module, batches, **keywords):
    network = from_module(module, batches[0])
    calibration = calibrate(network, batches, lambda _: INT8)
    return layer_inputs(network, batches, lambda _: HARDWARE, calibration, **keywords), calibration


def test_each_group_of_a_convolution_sees_its_own_channels():
    torch.manual_seed(0)
    module, x = nn.Conv2d(4, 6, 2, groups=2, bias=False), torch.randn(3, 4, 5, 5)
    found, calibration = inputs_of(module, [(x,)])
    (quantizer,) = calibration.quantizers.values()
    ints = np.clip(np.rint(x.numpy() / np.float32(quantizer.step)), -127, 127)
    ((first, second),) = found.values()
    for group, got in enumerate((first, second)):
        mine = ints[:, 2 * group : 2 * group + 2]
        windows = [mine[b, :, i : i + 2, j : j + 2].ravel() for b in range(3) for i in range(4) for j in range(4)]
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, np.stack(windows, 1))


def test_a_sample_is_drawn_evenly_from_all_batches_and_does_not_depend_on_other_layers():
    torch.manual_seed(0)
    batches = [(torch.full((100, 1), float(value)),) for value in range(1, 5)]  # the value tells the batch
    module = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 2))
    found, _ = inputs_of(module, batches, columns=200)
    first = found["0"][0]
    assert first.shape == (1, 200)
    values, counts = np.unique(first, return_counts=True)
    assert len(values) == 4 and counts.min() > 30  # 50 expected of each, deviation 5
    again, _ = inputs_of(module[:1], batches, columns=200)
    np.testing.assert_array_equal(again["0"][0], first)
    same, _ = inputs_of(module, batches, columns=200)
    np.testing.assert_array_equal(same["0"][0], first)
    other, _ = inputs_of(module, batches, columns=200, seed=1)
    assert not np.array_equal(other["0"][0], first)


def test_layers_that_the_hardware_does_not_multiply_are_left_out_and_data_are_needed():
    module, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.rand(5, 4)
    network = from_module(module, (x,))
    calibration = calibrate(network, [(x,)], lambda _: INT8)
    found = layer_inputs(network, [(x,)], lambda y: HARDWARE if y.name == "2" else INT8, calibration)
    assert list(found) == ["2"] and found["2"][0].shape == (3, 5) and found["2"][0].min() >= 0
    with pytest.raises(InputError, match="inputs of layers need at least one batch of training data"):
        layer_inputs(network, [], lambda _: HARDWARE, calibration)
