"""Cost signals: prices are differences of whole-network costs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from picojoule.compress.coupling import channel_groups
from picojoule.compress.pruning import prune_network
from picojoule.signals import group_prices, marginal, ranked, uniform_signal
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.formats import integer_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.weights import from_array


def chain(widths: tuple[int, ...] = (3, 20, 40, 10)) -> Network:
    """1x1 convolutions on 6x6 pixels; the last one's channels are the outputs."""
    build = NetworkBuilder("chain")
    x = build.input("x", TensorType(shape=(1, widths[0], 6, 6), batch_axis=0))
    plain = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))
    for i, (into, out) in enumerate(pairwise(widths)):
        weight = parameter(f"c{i}.weight", from_array(np.ones((out, into, 1, 1), dtype=np.float32)))
        (x,) = build.add(Op.CONV, [x, weight], plain, name=f"c{i}")
    return build.finish([x])


def test_every_mac_costs_one_in_the_uniform_signal() -> None:
    signal = uniform_signal(chain())
    assert signal.baseline == 36 * (3 * 20 + 20 * 40 + 40 * 10)
    assert signal.layers["c0"].output_channel == 36 * (3 + 40)  # its own filter and one input of each reader
    assert signal.layers["c1"].input_channel == 36 * (3 + 40)
    assert signal.layers["c1"].output_channel == 36 * (20 + 10)
    assert signal.layers["c2"].output_channel is None  # outputs of the network stay
    assert signal.layers["c0"].input_channel is None
    assert signal.layers["c0"].channel_slope == 36 * (3 + 40)
    assert list(ranked(signal)) == ["c0", "c1"]


@pytest.mark.parametrize("metric", ["energy_pj_per_sample", "latency_s"])
def test_marginal_prices_are_differences_of_evaluated_networks(metric: str) -> None:
    network, accelerator = chain(), load_hardware("edge-16x16")
    signal = marginal(network, accelerator, metric)
    coupling = channel_groups(network)
    labels = coupling.outputs_of(network.layers[1])
    for count, key in ((1, "output_channel"), (10, None)):
        keep = np.ones(coupling.count, dtype=bool)
        keep[labels[-count:]] = False
        fewer = accelerator.evaluate(prune_network(network, keep, coupling)).totals[metric]
        if key:
            assert getattr(signal.layers["c1"], key) == pytest.approx(signal.baseline - fewer, rel=1e-9)
    weight = network.layers[1].operands[1]
    thin = replace(weight, format=integer_format(accelerator.arithmetic(network.layers[1]).weight.bits - 1))
    changed = replace(network.layers[1], operands=(network.layers[1].operands[0], thin))
    narrow = accelerator.evaluate(network.with_layers((network.layers[0], changed, network.layers[2])))
    assert signal.layers["c1"].weight_bit == pytest.approx(
        signal.baseline - narrow.totals[metric], abs=1e-9 * signal.baseline
    )
    assert signal.price(network) == signal.baseline


def test_a_step_is_found_where_cost_falls_in_tiles() -> None:
    """A made-up accelerator of 16-channel tiles: 40 channels cost 3 tiles, and 8 must go before 2 are enough."""

    class Tiles:
        spec = load_hardware("edge-16x16").spec

        def evaluate(self, network: Network, **_: object) -> object:
            tiles = sum(-(-layer.operands[1].shape[0] // 16) for layer in network.layers)
            return type("R", (), {"totals": {"latency_s": float(tiles)}})

        def arithmetic(self, layer: object) -> object:
            return load_hardware("edge-16x16").arithmetic(layer)

    signal = marginal(chain(), Tiles(), "latency_s")
    c1 = signal.layers["c1"]
    assert c1.output_channel == 0.0
    assert (c1.step.distance, c1.step.size) == (8, 1.0)
    assert c1.step.slope == pytest.approx(
        (0 / 5 + 1 / 10) / 2
    )  # after an eighth (5) and a quarter (10) of the channels
    assert signal.layers["c0"].step.distance == 4
    assert c1.weight_bit == 0.0
    assert c1.bit_slice is None  # no number of bits saves anything here
    assert group_prices(signal, channel_groups(chain())).max() == pytest.approx(max(c1.step.slope, 1 / 5 / 2))


def test_an_unknown_metric_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"unknown metric 'energy_pJ'; did you mean 'energy_pj'\?"):
        marginal(chain(), load_hardware("edge-16x16"), "energy_pJ")
