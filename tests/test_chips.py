"""Chips that differ: their seeds reach the hardware, accuracy is their mean, and a twin is one of them or a new one each step."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from scipy.stats import t as student
from torch import nn

from picojoule.accuracy import arithmetic_in, chip_seed, chips_interval, measure, training_chip_seed
from picojoule.models.data import load
from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.report import wilson_interval
from picojoule.training import train
from picojoule.twin import HardwareTwin

INT8 = Arithmetic(weight=integer_format(8), activation=integer_format(8))


class Held:
    exact = False

    def __init__(self, weights):
        self.weights = weights

    def matmul(self, inputs, *, signed=None):
        return self.weights @ inputs


class NoisyHardware:
    """Cells that are off by a normal error, drawn from (chip's seed, layer, group); keeps what it was asked."""

    spec = None
    chips_differ = True
    needs_samples = False

    def __init__(self, sigma=12.0):
        self.sigma, self.asked = sigma, []

    def arithmetic(self, layer):
        assert self.needs_samples, "a network is given: its chip counts"
        return replace(INT8, program=lambda weights: pytest.fail("formats are wanted, no product"))

    def arithmetic_in(self, network, *, seed=0, samples=None):
        self.asked.append((seed, samples))

        def arithmetic(layer):
            def program(weights, group=0):
                place = int(layer.name.split(".")[0]) if layer.name[0].isdigit() else 0
                noise = np.random.default_rng((seed, place, group)).normal(0, self.sigma, weights.shape)
                return Held(weights + noise)

            return replace(INT8, program=program)

        return arithmetic


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()
    train(module, digits.train, epochs=6, lr=1e-2, seed=0)
    return module


@pytest.fixture(scope="module")
def network(trained, digits):
    return from_module(trained, (torch.tensor(digits.train.images[:2]),))


def test_accuracy_is_the_mean_over_chips_with_an_interval_of_images_and_chips(network, digits):
    hardware = NoisyHardware()
    shown = []
    found = measure(
        network, hardware, digits, seed=5, seeds=4, progress=lambda done, total: shown.append((done, total))
    )
    assert [seed for seed, _ in hardware.asked[1:]] == [chip_seed(5, i) for i in range(4)]
    assert len(set(found.per_seed)) > 1 and found.seeds == 4 and found.chips_differ
    assert found.hardware == pytest.approx(np.mean(found.per_seed))
    assert shown[-1] == (5 * 360, 5 * 360)  # one float pass, four chips
    low, high = wilson_interval(found.hardware * 360, 360)
    half = student.ppf(0.975, 3) * np.std(found.per_seed, ddof=1) / 2
    assert found.interval[0] == pytest.approx(found.hardware - math.hypot(found.hardware - low, half))
    assert found.interval[1] == pytest.approx(min(1, found.hardware + math.hypot(high - found.hardware, half)))
    alone = measure(network, hardware, digits, seed=5)
    assert alone.per_seed == found.per_seed[:1]  # the first chip is that of the seed itself
    assert alone.interval == wilson_interval(round(alone.hardware * 360), 360)
    assert list(found.to_dict())[-2:] == ["seeds", "per_seed"]


def test_hardware_whose_chips_are_alike_is_measured_once(network, digits):
    hardware = NoisyHardware(sigma=0.0)
    hardware.chips_differ = False
    found = measure(network, hardware, digits, seeds=3)
    assert (found.seeds, found.chips_differ, len(hardware.asked)) == (1, False, 2)
    with pytest.raises(InputError, match="seeds must be at least 1, got 0"):
        measure(network, hardware, digits, seeds=0)


def test_an_interval_of_equal_chips_is_that_of_the_images():
    assert chips_interval([90, 90, 90], 100) == pytest.approx(wilson_interval(90, 100))
    low, high = chips_interval([99, 80, 100], 100)
    assert low < wilson_interval(93, 100)[0] and high == 1.0


@pytest.mark.parametrize(
    ("chips", "images", "of_chip", "of_pair"),
    [(3, 500, 0.1, 0.3), (5, 100, 0.1, 0.3), (5, 500, 0.3, 2.0), (10, 500, 0.1, 0.3), (5, 100, 0.0, 0.01)],
)
def test_an_interval_of_chips_and_images_covers_the_truth_in_95_of_100_and_is_not_twice_as_wide(
    chips, images, of_chip, of_pair
):
    # An image is right on a chip if 1.3 + ease(image) + level(chip) + luck(image, chip) > 0, all normal: the truth is known.
    generator = np.random.default_rng(0)
    truth = norm.cdf(1.3 / math.sqrt(1 + of_chip**2 + of_pair**2))
    errors, widths, covered, runs = [], [], 0, 500
    for _ in range(runs):
        ease, level = generator.normal(size=(1, images)), of_chip * generator.normal(size=(chips, 1))
        right = (1.3 + ease + level + of_pair * generator.normal(size=(chips, images)) > 0).sum(axis=1)
        low, high = chips_interval(right.tolist(), images)
        errors.append(abs(right.mean() / images - truth))
        widths.append(high - low)
        covered += low <= truth <= high
    exact = 2 * np.quantile(errors, 0.95)  # the narrowest of one width that covers 95 %
    assert covered / runs >= 0.95
    assert np.mean(widths) < 2 * exact


def test_an_accelerator_may_know_no_seed(network):
    class Plain:
        def arithmetic_in(self, network):
            return lambda layer: INT8

    assert arithmetic_in(Plain(), network, seed=3, samples={})(network.layers[0]) is INT8


def test_samples_are_collected_only_where_the_hardware_asks(network, digits):
    hardware = NoisyHardware()
    hardware.needs_samples = True
    measure(network, hardware, digits)
    ((_, samples),) = hardware.asked
    assert sorted(len(s[0]) for s in samples.values()) == [16, 64]
    twin = HardwareTwin(nn.Linear(4, 2), (torch.rand(3, 4),), hardware)
    assert [s[0].shape for s in hardware.asked[-1][1].values()] == [(4, 3)]
    assert twin(torch.rand(2, 4)).shape == (2, 2)


def test_twins_are_the_same_chip_for_the_same_seed_and_training_may_take_a_new_one_each_step(trained, digits):
    x = torch.tensor(digits.val.images[:50])

    def twin(**keywords):
        return HardwareTwin(trained, (x,), NoisyHardware(), **keywords)

    with torch.no_grad():
        one, same, other = twin(seed=1)(x), twin(seed=1)(x), twin(seed=2)(x)
    assert torch.equal(one, same) and not torch.equal(one, other)
    fixed, fresh = twin(seed=1), twin(seed=1, resample=True)
    assert torch.equal(fixed(x).detach(), one) and torch.equal(fixed(x).detach(), one)
    first, second = fresh(x), fresh(x)
    assert not torch.equal(first, second) and not torch.equal(first.detach(), one)
    again = twin(seed=1, resample=True)
    assert torch.equal(again(x), first) and torch.equal(again(x), second)  # drawn from the seed
    with torch.no_grad():
        assert torch.equal(fresh(x), one)  # measured, it is the chip of its seed
    trained_on = [training_chip_seed(1, step) for step in (1, 2)]
    asked = NoisyHardware()
    resampled = HardwareTwin(trained, (x,), asked, seed=1, resample=True)
    resampled(x), resampled(x)
    assert [seed for seed, _ in asked.asked][-2:] == trained_on
    first.sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in trained.parameters())
    trained.zero_grad()


def test_a_twin_is_the_first_chip_that_its_seed_measures(trained, network, digits):
    hardware = NoisyHardware()
    batches = [
        (torch.tensor(digits.train.images[i : min(i + 100, 256)]),) for i in (0, 100, 200)
    ]  # as `measure` takes them
    found = measure(network, hardware, digits, seed=3, seeds=2)
    twin = HardwareTwin(trained, batches[0], hardware, calibration=batches, seed=3)
    with torch.no_grad():
        right = twin(torch.tensor(digits.test.images)).argmax(1) == torch.tensor(digits.test.labels)
    assert float(right.double().mean()) == pytest.approx(found.per_seed[0])
    assert found.per_seed[0] != found.per_seed[1]


def test_no_chip_is_trained_on_and_measured():
    measured = {chip_seed(seed, i) for seed in range(20) for i in range(200)}
    trained_on = {training_chip_seed(seed, step) for seed in range(20) for step in range(200)}
    assert not measured & trained_on and min(trained_on) > max(measured)
    assert len(measured) == len(trained_on) == 20 * 200


@pytest.mark.parametrize("seed", [-1, 0.5, True, 2**63])
def test_a_seed_of_no_chip_is_refused_in_a_sentence(seed, network, digits):
    expected = "seed must be a whole number between 0 and 2\\*\\*63 - 1, got"
    for ask in (
        lambda: chip_seed(seed, 0),
        lambda: chip_seed(seed, 1),
        lambda: training_chip_seed(seed, 1),
        lambda: HardwareTwin(nn.Linear(4, 2), (torch.rand(3, 4),), NoisyHardware(), seed=seed, resample=True),
        lambda: HardwareTwin(nn.Linear(4, 2), (torch.rand(3, 4),), NoisyHardware(), seed=seed),
        lambda: measure(network, NoisyHardware(), digits, seed=seed),
    ):
        with pytest.raises(InputError, match=expected):
            ask()
