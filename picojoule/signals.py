"""Cost signals from the simulator: what one unit less of each layer saves, by pricing the changed network again.

Finite differences on the network rewritten with its coupling, so a channel's price holds everything that goes with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from picojoule.compress.coupling import Coupling, channel_groups, weighted
from picojoule.compress.pruning import prune_network
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError, unknown_choice
from picojoule.sim.formats import FormatKind, NumberFormat, Sparsity, Structure, integer_format
from picojoule.sim.gemm import network_macs
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.protocol import Accelerator
from picojoule.sim.signals import ChannelStep, CostSignal, LayerPrice

Price = Callable[[Network], float]

_SLICE_SEARCH_BITS = 4
"""How many weight bits are taken away in search of the next fall: cells hold 1 to 4 bits."""


def uniform_signal(network: Network) -> CostSignal:
    """Return the hardware-agnostic signal: every MAC costs 1, bits and zeros cost nothing."""
    coupling = channel_groups(network)

    def price(candidate: Network) -> float:
        return float(network_macs(candidate))

    prices = _channel_prices(network, coupling, price)
    return CostSignal(metric="macs", hardware="uniform", baseline=price(network), layers=prices, price=price)


def marginal(
    network: Network, accelerator: Accelerator, metric: str = "energy_pj_per_sample", batch: int = 1
) -> CostSignal:
    """Return what one unit less of each layer saves on an accelerator; `metric` is a key of the report's totals.

    Batch norms are folded before pricing, as `evaluate` does, so shares of the baseline are those that reports show.

    Raises:
        InputError: for a metric that is no number here.

    """

    def price(candidate: Network) -> float:
        totals = accelerator.evaluate(fold_batch_norm(candidate), batch=batch, chips=None).totals
        if not isinstance(totals.get(metric), int | float):
            numbers = [k for k, v in totals.items() if isinstance(v, int | float)]
            raise InputError(unknown_choice("metric", metric, numbers))
        return float(totals[metric])

    coupling = channel_groups(network)
    baseline = price(network)
    prices = _channel_prices(network, coupling, price)
    for layer in network.layers:
        if layer.op in MAC_OPS:
            prices[layer.name] = _with_bits(network, layer, accelerator, price, baseline, prices.get(layer.name))
    name = accelerator.spec.name or accelerator.spec.kind
    return CostSignal(metric=metric, hardware=name, baseline=baseline, layers=prices, price=price)


def group_prices(signal: CostSignal, coupling: Coupling) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the tile-averaged price of each channel group, 0 where the signal prices none of its layers."""
    found = np.zeros(coupling.count)
    for group in coupling.groups:
        slopes = [signal.layers[m].channel_slope for m in group.makers if m in signal.layers]
        # A grouped convolution loses several channels with one group; the layer that loses fewest states the group's price.
        found[group.number] = max((s for s in slopes if s is not None), default=0.0)
    return found


# --- channels -------------------------------------------------------------------------------------------------------------


def _channel_prices(network: Network, coupling: Coupling, price: Price) -> dict[str, LayerPrice]:
    """Return prices of channels; layers whose channels are the same groups are priced once."""
    known: dict[tuple[int, ...], tuple[float, ChannelStep] | None] = {}
    baseline = price(network)

    def of(labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[float, ChannelStep] | None:
        key = tuple(np.unique(labels[labels >= 0]).tolist())
        if key not in known:
            known[key] = _step_down(network, coupling, price, baseline, key, labels)
        return known[key]

    found = {}
    for layer in network.layers:
        if weighted(layer):
            labels = coupling.outputs_of(layer)
            out, into = of(labels), of(coupling.inputs_of(layer))
            found[layer.name] = LayerPrice(
                channels=len(labels),
                output_channel=out[0] if out else None,
                input_channel=into[0] if into else None,
                step=out[1] if out else None,
            )
    return found


def _step_down(
    network: Network,
    coupling: Coupling,
    price: Price,
    baseline: float,
    groups: tuple[int, ...],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> tuple[float, ChannelStep] | None:
    """Return the price of one channel and the next step, or None where no channel can go.

    Groups go in order from the last; a group of several channels of the axis counts as that many.
    """
    per_group = len(labels[labels >= 0]) // len(groups) if groups else 0
    most = len(groups) - (1 if len(groups) * per_group == len(labels) else 0)
    if most < 1:
        return None
    held: dict[int, float] = {0: 0.0}

    def fall(count: int) -> float:
        if count not in held:
            keep = np.ones(coupling.count, dtype=np.bool_)
            keep[list(groups[len(groups) - count :])] = False
            try:
                held[count] = baseline - price(prune_network(network, keep, coupling))
            except InputError:  # some other layer (one branch of a concat) would keep no channel: the search ends here
                held[count] = held[max(held)]
        return held[count]

    near, far = max(1, len(groups) // 8), min(most, max(1, len(groups) // 4))
    slope = (fall(near) / near + fall(far) / far) / 2 / per_group
    least = 1e-9 * abs(baseline)
    count = 1
    while fall(count) <= least and count < most:
        count = min(2 * count, most)
    low = count // 2
    while low + 1 < count and fall(count) > least:  # the first count that falls lies in (low, count]
        middle = (low + count) // 2
        low, count = (low, middle) if fall(middle) > least else (middle, count)
    return fall(1) / per_group, ChannelStep(distance=count * per_group, size=fall(count), slope=slope)


# --- bits and zeros -------------------------------------------------------------------------------------------------------


def _with_bits(
    network: Network, layer: Layer, accelerator: Accelerator, price: Price, baseline: float, found: LayerPrice | None
) -> LayerPrice:
    found = found or LayerPrice(channels=layer.results[0].shape[-1])
    arithmetic = accelerator.arithmetic(layer)

    def saved(changed: Layer) -> float | None:
        layers = tuple(changed if y.name == layer.name else y for y in network.layers)
        try:
            return baseline - price(network.with_layers(layers))
        except (InfeasibleError, UnsupportedError):
            return None

    def narrower(positions: tuple[int, ...], form: NumberFormat | None, less: int) -> float | None:
        if form is None or form.kind is not FormatKind.INTEGER or form.bits - less < (2 if form.signed else 1):
            return None
        thin = integer_format(form.bits - less, signed=form.signed, per=form.per)
        operands = [replace(o, format=thin, step=None) if i in positions else o for i, o in enumerate(layer.operands)]
        return saved(replace(layer, operands=tuple(operands)))

    activations = tuple(i for i in (0, 1) if layer.operands[i].kind is OperandKind.ACTIVATION)
    activation_bit = narrower(activations, arithmetic.activation, 1)
    if not weighted(layer):
        return replace(found, activation_bit=activation_bit)
    weight_bit = narrower((1,), arithmetic.weight, 1)
    tried, less = weight_bit, 1
    while tried is not None and tried <= 1e-9 * abs(baseline) and less < _SLICE_SEARCH_BITS:
        less += 1
        tried = narrower((1,), arithmetic.weight, less)
    weight = layer.operands[1]
    half = replace(weight, sparsity=Sparsity(structure=Structure.UNSTRUCTURED, density=weight.sparsity.density / 2))
    zeros = saved(replace(layer, operands=(layer.operands[0], half, *layer.operands[2:])))
    dropped = weight.type.elements() * weight.sparsity.density / 2
    return replace(
        found,
        weight_bit=weight_bit,
        activation_bit=activation_bit,
        bit_slice=tried if tried is not None and tried > 1e-9 * abs(baseline) else None,
        nonzero=zeros / dropped if zeros is not None and dropped else None,
    )


def ranked(signal: CostSignal) -> Mapping[str, float]:
    """Return layers by the tile-averaged price of an output channel, dearest first."""
    priced = {name: p.channel_slope for name, p in signal.layers.items() if p.channel_slope is not None}
    return dict(sorted(priced.items(), key=lambda item: -item[1]))
