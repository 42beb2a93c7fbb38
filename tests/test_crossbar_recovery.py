"""Fine-tuning on the hardware: what is measured on what, and how the table is made of it."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

import picojoule.crossbar_recovery as recovery
from picojoule.accuracy import chip_seed
from picojoule.models.data import load
from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.protocol import Arithmetic

NARROW = {"weight_bits": 8, "activation_bits": 8, "encoding": "differential", "adc_bits": 3}
SHORT = recovery.RecoverySettings(
    pretrain=8, pretrain_lr=1e-2, epochs=2, lr=2e-3, train_samples=512, test_samples=200, chips=2, seeds=2
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_training_on_the_hardware_wins_back_what_more_training_does_not(digits):
    told = []
    rows = recovery.recovery("mlp-784-100-10", digits, "isaac", {"narrow": NARROW}, SHORT, say=told.append)
    assert [(r["seed"], r["stage"]) for r in rows[:3]] == [(0, "before"), (0, recovery.CONTROL), (0, recovery.AFTER)]
    assert len(rows) == len(told) == 6 and all(r["samples"] == 200 and len(r["per_chip"]) == 1 for r in rows)
    before, control, after = recovery.summary(rows)
    assert before["float_before"] > 0.85 and before["accuracy"] < before["float_before"] - 0.04
    assert after["gain"] > max(0.03, control["gain"] + 0.02)


class Cells:
    """Hardware whose chips differ; keeps which chip was programmed with gradients wanted (training) and which without."""

    spec = None
    chips_differ = True

    def __init__(self):
        self.chips = {True: [], False: []}

    def arithmetic_in(self, network, *, seed=0, samples=None):
        def program(weights):
            self.chips[torch.is_grad_enabled()].append(seed)
            return Held(weights + np.random.default_rng(seed).normal(0, 25, weights.shape))

        made = Arithmetic(weight=integer_format(8), activation=integer_format(8), program=program)
        return lambda layer: made


class Held:
    exact = False

    def __init__(self, weights):
        self.weights = weights

    def matmul(self, inputs, *, signed=None):
        return self.weights @ inputs


def test_chips_measured_are_not_those_trained_on(digits, monkeypatch):
    hardware = Cells()
    monkeypatch.setattr(recovery, "load_hardware", lambda name, overrides: hardware)
    short = recovery.RecoverySettings(
        pretrain=1, epochs=2, train_samples=192, batch_size=64, test_samples=50, chips=4, seeds=2
    )
    rows = recovery.recovery("mlp-784-100-10", digits, "cells", {"noisy": {}}, short)
    trained, measured = hardware.chips[True], hardware.chips[False]
    assert len(set(trained)) == 2 * 2 * 3  # a chip for each step: seeds, epochs, batches
    assert set(measured) == {chip_seed(0, i) for i in range(4)}  # for every network and stage
    assert not set(trained) & set(measured)
    assert len(rows) == 2 * 3 and all(len(set(r["per_chip"])) > 1 for r in rows)


def test_a_summary_is_paired_by_seed():
    values = {"before": [0.5, 0.6, 0.4], recovery.CONTROL: [0.5, 0.6, 0.4], recovery.AFTER: [0.7, 0.82, 0.58]}
    rows = [
        {"seed": seed, "case": "c", "stage": stage, "float": 0.9, "accuracy": value}
        for stage, found in values.items()
        for seed, value in enumerate(found)
    ]
    _, control, after = recovery.summary(rows)
    assert (control["gain"], control["gain_low"], control["gain_high"]) == (0, 0, 0)
    half = student.ppf(0.975, 2) * np.std([0.2, 0.22, 0.18], ddof=1) / np.sqrt(3)
    assert (after["gain"], after["gain_low"]) == (pytest.approx(0.2), pytest.approx(0.2 - half))
    assert after["seeds"] == 3 and after["float_before"] == pytest.approx(0.9)


def test_one_seed_gives_no_interval(digits):
    one = recovery.RecoverySettings(seeds=1)
    with pytest.raises(InputError, match="recovery needs at least 2 seeds for an interval, got 1"):
        recovery.recovery("lenet5", digits, "isaac", {}, one)
