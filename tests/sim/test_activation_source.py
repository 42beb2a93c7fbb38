"""Activations in the order in which they stream, sample by sample."""

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.sim.activation_source import ActivationSource, collect, mean_interval
from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.numerics.calibration import Calibration, calibrate
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic

INT8 = Arithmetic(weight=integer_format(8), activation=integer_format(8))


def source_of(module: nn.Module, x: torch.Tensor, **keywords: int) -> tuple[ActivationSource, Calibration]:
    network = from_module(module, (x,))
    calibration = calibrate(network, [(x,)], lambda _: INT8)
    samples = [(x[i : i + 1],) for i in range(len(x))]
    return collect(network, samples, lambda _: INT8, calibration, **keywords), calibration


def test_columns_are_the_windows_of_each_sample_in_order() -> None:
    torch.manual_seed(0)
    module, x = nn.Conv2d(4, 6, 2, groups=2, bias=False), torch.randn(3, 4, 5, 5)
    source, calibration = source_of(module, x)
    ((name, samples),) = source.inputs.items()
    (quantizer,) = calibration.quantizers.values()
    codes = np.clip(np.rint(x.numpy() / np.float32(quantizer.step)), -127, 127)
    assert source.samples == len(samples) == 3 and source.of_layer(name) is samples and source.of_layer("no") == ()
    for b, sample in enumerate(samples):
        assert sample.shape == (2, 8, 16)
        for group in range(2):
            mine = codes[b, 2 * group : 2 * group + 2]
            windows = [mine[:, i : i + 2, j : j + 2].ravel() for i in range(4) for j in range(4)]
            np.testing.assert_array_equal(sample[group], np.stack(windows, 1))


def test_of_many_columns_neighbors_from_the_middle_are_kept() -> None:
    module, x = nn.Conv2d(1, 2, 1, bias=False), torch.arange(1.0, 101.0).reshape(1, 1, 10, 10).repeat(2, 1, 1, 1)
    source, _ = source_of(module, x, columns=20)
    whole, _ = source_of(module, x)
    (kept, _), (full, _) = (next(iter(found.inputs.values())) for found in (source, whole))
    assert full.shape == (1, 1, 100)
    np.testing.assert_array_equal(kept, full[:, :, 40:60])


def test_activations_after_relu_are_unsigned_codes_of_the_second_layer() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    source, _ = source_of(module, torch.randn(4, 6))
    second = np.stack(source.of_layer("2"))
    assert second.shape == (4, 1, 5, 1) and second.min() >= 0 and 127 < second.max() <= 255


def test_no_sample_is_refused() -> None:
    network = from_module(nn.Linear(2, 2), (torch.randn(2, 2),))
    with pytest.raises(InputError, match="at least one sample of training data"):
        collect(network, [], lambda _: INT8, Calibration())
    with pytest.raises(InputError, match="at least one sample"):
        mean_interval([])


def test_intervals_are_students() -> None:
    mean, interval = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and interval == (pytest.approx(2 - 4.303 / 3**0.5), pytest.approx(2 + 4.303 / 3**0.5))
    assert mean_interval([5.0]) == (5.0, None)
