"""What a network's accuracy is measured with: converters built for the network, ranges from calibration data."""

import numpy as np
import pytest

from picojoule.reram.hardware_arithmetic import arithmetic_in
from picojoule.reram.plan import make_plan
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import fill_formats

from .networks import DIFFERENTIAL, EIGHT, A, B, C, isaac, linears, product_of_activations, random_net

RNG = np.random.default_rng(5)


def codes_of(layer: Layer, network: Network) -> np.ndarray:
    spec = isaac(**EIGHT).spec
    filled, _ = fill_formats(network, spec.native_weight, spec.native_activation)
    (found,) = (x for x in filled.layers if x.name == layer.name)
    form = found.operands[1].format
    assert form is not None
    return integer_weights(found, form)


def test_a_chip_is_built_for_its_network() -> None:
    network = linears(A, B, C)
    placed = isaac(**DIFFERENTIAL).arithmetic_in(network)
    assert {placed(layer).note for layer in network.layers} == {"crossbars: differential encoding, 4/0/0/3-bit ADC"}
    alone = isaac(**DIFFERENTIAL).arithmetic(network.layers[2])  # one layer decides for itself: 2 bits for slice 0
    assert "as many bits as needed" in alone.note
    assert isaac(**EIGHT).arithmetic_in(network)(network.layers[0]).note == "crossbars: flip encoding, 8-bit ADC"


@pytest.mark.parametrize("build", ["design_time", "run_time"])
@pytest.mark.parametrize("encoding", ["offset", "flip", "differential", "split"])
@pytest.mark.parametrize("groups", [1, 2])
def test_needed_bits_lose_nothing(build: str, encoding: str, groups: int) -> None:
    network = random_net(groups=groups)
    hardware = isaac(**EIGHT, encoding=encoding, adc_bits="needed", adc=build)
    place = hardware.arithmetic_in(network)
    for layer in network.layers:
        arithmetic = place(layer)
        if arithmetic.program is None:
            continue
        for group, weights in enumerate(codes_of(layer, network)):
            product = arithmetic.place(weights, group)
            assert product.exact
            x = RNG.integers(-127, 128, size=(weights.shape[1], 3))
            assert np.array_equal(product.matmul(x, signed=True), weights @ x)


def test_a_percentile_clips_and_is_measured_with_the_clipped_bits() -> None:
    network = random_net()
    layer = network.layers[-1]
    (weights,) = codes_of(layer, network)
    x = np.full((weights.shape[1], 1), 127)
    keys = {**EIGHT, "encoding": "differential", "adc_bits": "needed", "adc": "run_time"}
    exact, clipped = (
        isaac(**keys, adc_percentile=p).arithmetic_in(network)(layer).place(weights, 0).matmul(x) for p in (100.0, 50.0)
    )
    assert np.array_equal(exact, weights @ x)
    assert not np.array_equal(clipped, exact)


def test_ranges_are_calibrated_on_samples() -> None:
    network = random_net()
    layer = network.layers[-1]
    (weights,) = codes_of(layer, network)
    keys = {**EIGHT, "encoding": "differential", "adc_bits": 6}
    samples = {"fc": [RNG.integers(0, 60, size=(weights.shape[1], 64))]}
    x = RNG.integers(0, 60, size=(weights.shape[1], 16))

    def error(**changes: object) -> float:
        place = isaac(**keys, **changes).arithmetic_in(network, samples=samples)
        return float(np.abs(place(layer).place(weights, 0).matmul(x) - weights @ x).mean())

    calibrated = error(adc_range="calibrated", adc_percentile=99.9)
    assert calibrated < error(adc_range="full") / 2
    with pytest.raises(UnsupportedError) as refused:
        isaac(**keys, adc_range="calibrated").arithmetic_in(network)(layer).place(weights, 0)
    assert str(refused.value) == (
        "layer 'fc': adc_range 'calibrated' takes its ranges from calibration data and there are none; measure with "
        "--accuracy and --data, or pass samples to arithmetic_in"
    )


def test_the_seed_is_the_piece_of_hardware() -> None:
    network = random_net()
    layer = network.layers[-1]
    (weights,) = codes_of(layer, network)
    x = RNG.integers(0, 127, size=(weights.shape[1], 2))
    hardware = isaac(**EIGHT, **{"device.programming_sigma": 0.02})
    a, again, other = (hardware.arithmetic_in(network, seed=s)(layer).place(weights, 0).matmul(x) for s in (1, 1, 2))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, other)


def test_products_of_activations_are_computed_in_crossbars_only_where_exact() -> None:
    network = product_of_activations()
    (layer,) = network.layers
    assert isaac(**EIGHT, dynamic_matmul="write").arithmetic(layer).program is None  # exact integers
    with pytest.raises(UnsupportedError) as error:
        isaac(**EIGHT, dynamic_matmul="write", adc_bits=6).arithmetic(layer)
    assert str(error.value) == (
        "layer 'scores' multiplies two activations in crossbars (dynamic_matmul write), which is computed for exact products "
        "only: no device, adc_range exact and adc_bits of 8 or more; use dynamic_matmul digital or host"
    )


def test_needs_are_in_the_plan() -> None:
    network, _ = fill_formats(random_net(), isaac(**EIGHT).spec.native_weight, isaac(**EIGHT).spec.native_activation)
    plan = make_plan(network, 1, 1, isaac(**DIFFERENTIAL).spec)
    assert set(plan.needs) == {"conv0", "conv1", "fc"}
    assert plan.needs["fc"].bits.shape == (1, 9, 4)
    assert not make_plan(network, 1, 1, isaac(**EIGHT).spec).needs
    assert arithmetic_in(network, isaac(**EIGHT).spec)(network.layers[0]).program is not None
