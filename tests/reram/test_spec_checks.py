"""Keys of a ReRAM hardware file that people get wrong: one sentence each; what a report says of odd cells; chips that differ."""

from typing import Any

import numpy as np
import pytest

import picojoule as pj
from picojoule.accuracy import arithmetic_in, chips_differ, needs_samples
from picojoule.reram.device_presets import DEVICE_PRESETS
from picojoule.sim.designs import DESIGN_METRICS, price_designs
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware

from .networks import EIGHT, isaac, one_linear, random_net, small_cnn, with_bits

CHOICES = f"(choose from {', '.join(repr(name) for name in sorted(DEVICE_PRESETS))})"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"rows_active": 256}, "rows_active must be at most crossbar_rows (128), got 256"),
        ({"rows_active": 0}, "rows_active must be at least 1, got 0"),
        ({"tile_rows": 64}, "unknown key 'tile_rows'; did you mean 'crossbar_rows'?"),
        ({"cell_max": 3}, "unknown key 'cell_max'; did you mean 'cell_bits'?"),
        ({"r_on_ohm": 2e3}, "unknown key 'r_on_ohm'; did you mean 'device.g_max_us'?"),
        ({"device": "milo-2021"}, "device must be a mapping of keys, got 'milo-2021'; write device.preset=milo-2021"),
        (
            {"device": "milo-2022"},
            "device must be a mapping of keys such as {preset: NAME}, got 'milo-2022'; unknown device preset 'milo-2022'; did "
            f"you mean 'milo-2021'? {CHOICES}",
        ),
        ({"device": "none"}, "device must be a mapping of keys, got 'none'; write device=null for no imperfections"),
        ({"device": 3}, "device must be a mapping of keys such as {preset: milo-2021}, got 3"),
        (
            {"device.preset": "wan-2021"},
            f"device: unknown device preset 'wan-2021'; did you mean 'wan-2022'? {CHOICES}",
        ),
        ({"device.stuck_of": 0.1}, "device: a device has no key 'stuck_of'; did you mean 'stuck_off'?"),
    ],
)
def test_keys_are_refused_in_one_sentence_that_says_what_to_write(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_hardware("isaac", keys)
    ((key, value),) = keys.items()
    assert str(error.value) == f"isaac.yaml with {key}={value}: {sentence}"


def test_all_rows_at_once_is_the_most() -> None:
    whole, named = (isaac(rows_active=rows, **EIGHT).evaluate(one_linear(300, 40)) for rows in (None, 128))
    assert whole.totals == named.totals


@pytest.mark.parametrize(
    ("weight", "keys", "note"),
    [
        ("int8", {"cell_bits": 3}, "3-bit cells do not divide 8-bit weights: 1 of 9 bits stays empty in every weight"),
        ("int8", {"cell_bits": 5}, "5-bit cells do not divide 8-bit weights: 2 of 10 bits stay empty in every weight"),
        (
            "int8",
            {"cell_bits": 2, "encoding": "differential"},
            "2-bit cells do not divide the 7-bit magnitudes of 8-bit weights: 1 of 8 bits stays empty in every weight",
        ),
        ("int8", {"cell_bits": 4}, None),
        ("int8", {"cell_bits": 7, "encoding": "split"}, None),
        ("int9", {"cell_bits": 3}, None),
    ],
)
def test_bits_of_cells_that_stay_empty_are_noted(weight: str, keys: dict[str, Any], note: str | None) -> None:
    notes = isaac(**keys).evaluate(with_bits(small_cnn(), weight, "int8")).coverage.notes
    assert [n for n in notes if "do not divide" in n] == ([note] if note else [])


@pytest.mark.parametrize(
    ("keys", "differ"),
    [
        ({}, False),
        ({"device.preset": "crosssim-isaac"}, False),  # conductances and nothing else
        ({"device.preset": "milo-2021"}, True),
        ({"device.stuck_off": 0.01}, True),
        ({"device.read_noise_sigma": 0.1}, True),
        ({"device.adc_inl_lsb": 8.0}, True),
        ({"device.drift_nu_mean": 0.1, "device.time_s": 1e6}, False),  # all cells drift alike
        ({"device.drift_nu_mean": 0.1, "device.drift_nu_sigma": 0.1, "device.time_s": 1e6}, True),
        ({"device.drift_nu_mean": 0.1, "device.drift_nu_sigma": 0.1}, False),  # no time has passed
    ],
)
def test_chips_differ_where_seeds_give_other_products(keys: dict[str, Any], differ: bool) -> None:
    machine = load_hardware("isaac", {**EIGHT, "encoding": "offset", "adc_bits": 9, **keys})
    network = one_linear(300, 40)
    layer = next(found for found in network.layers if len(found.operands) > 1)
    rng = np.random.default_rng(0)
    weights, inputs = rng.integers(-128, 128, (12, 40)), rng.integers(0, 128, (40, 30))
    products = [
        arithmetic_in(machine, network, seed=seed)(layer).place(weights, 0).matmul(inputs) for seed in (1, 1, 2)
    ]
    assert np.array_equal(products[0], products[1])
    assert chips_differ(machine) is differ
    assert np.array_equal(products[0], products[2]) is not differ


def test_samples_are_needed_where_ranges_are_calibrated() -> None:
    assert not needs_samples(isaac())
    assert needs_samples(isaac(adc_range="calibrated"))


def test_designs_of_converters_and_devices_are_priced_as_one_by_one() -> None:
    network, base = random_net(), load_hardware("isaac", EIGHT)
    keys: dict[str, list[Any]] = {
        "adc_bits": [[7, 7], [8, 8], 8, "needed", [5, 6, 7, 8]],
        "cell_bits": [4, 4, 2, 2, 2],
        "device.preset": [None, "milo-2021", "pcm-aihwkit", None, None],
        "rows_active": [None, 64, None, 32, None],
    }
    found = price_designs(base, network, keys)
    for i in range(5):
        point = {key: values[i] for key, values in keys.items()}
        totals = load_hardware("isaac", {**EIGHT, **point}).evaluate(network).totals
        assert [found.totals[m][i] for m in DESIGN_METRICS] == [totals[m] for m in DESIGN_METRICS]
    assert len(set(found.totals["energy_pj"].tolist())) == 5
    table = pj.sweep(network, "isaac", {"adc_bits": [[8] * 8, [7] * 8], "device.stuck_off": [0.0, 0.01]})
    assert table["adc_bits"].tolist() == [[8] * 8, [8] * 8, [7] * 8, [7] * 8]
    assert table["energy_pj"].nunique() == 2  # devices change what is computed, not what it costs


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"device.stuck_of": [0.1]}, "isaac: device: a device has no key 'stuck_of'; did you mean 'stuck_off'?"),
        (
            {"device": ["milo-2021"]},
            "isaac: device must be a mapping of keys, got 'milo-2021'; write device.preset=milo-2021",
        ),
        ({"rows_active": [64, 512]}, "isaac: rows_active must be at most crossbar_rows (128), got 512"),
        ({"tile_rows": [64]}, "isaac: unknown key 'tile_rows'; did you mean 'crossbar_rows'?"),
        ({"kind": ["systolic"]}, "isaac: kind must be 'reram', got 'systolic'"),
    ],
)
def test_designs_with_bad_keys_are_refused(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        pj.sweep(one_linear(300, 40), "isaac", keys)
    assert str(error.value) == sentence
