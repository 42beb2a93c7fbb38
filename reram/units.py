"""Which unit runs a layer, in which formats, and its weights laid out in crossbars with their converters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from picojoule.reram.adc_models import AdcModel
from picojoule.reram.adcs import LayerAdc, LayerNeeds, any_needs, built_bits, layer_needs, needed_adc, stated_adc
from picojoule.reram.mapping import LayerMapping, map_layer
from picojoule.reram.spec import NEEDED, AdcBuild, DynamicMatmul, ReramSpec, input_width, weight_width
from picojoule.sim.attributes import MAC_OPS, Op, RecurrentAttributes
from picojoule.sim.formats import NumberFormat
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.recurrence import dependent_products, state_format
from picojoule.sim.technology.adc_laws import SURVEY_LEAST_BITS

CROSSBAR, VECTOR, HOST, UNSUPPORTED = "crossbar", "vector", "host", "unsupported"
_SPECIAL = {
    Op.CONV: CROSSBAR,
    Op.LINEAR: CROSSBAR,
    Op.MATMUL: CROSSBAR,
    Op.RECURRENT: CROSSBAR,
    Op.DEFORM_CONV: HOST,  # its window is sampled between pixels, which no wordline can be
    Op.EMBEDDING: HOST,  # a table to look up, not to multiply with
    # A tile's digital unit streams what its crossbars make; what visits elements in an order that data decide does not stream.
    Op.GATHER: HOST,
    Op.SCATTER: HOST,
    Op.SORT: HOST,
    Op.GRID_SAMPLE: HOST,
    Op.OPAQUE: UNSUPPORTED,
}
UNIT_OF_OP = {op.value: _SPECIAL.get(op, VECTOR) for op in Op}


def unit_of(layer: Layer, spec: ReramSpec) -> str:
    """Return the unit that runs a layer; products of two activations run where `dynamic_matmul` says."""
    usual = UNIT_OF_OP[layer.op.value]
    if usual != CROSSBAR or not is_dynamic(layer):
        return usual
    return {DynamicMatmul.HOST: HOST, DynamicMatmul.WRITE: CROSSBAR, DynamicMatmul.DIGITAL: VECTOR}[spec.dynamic_matmul]


def is_dynamic(layer: Layer) -> bool:
    """Whether a layer of MACs multiplies two activations."""
    return layer.op in MAC_OPS and layer.operands[1].kind is OperandKind.ACTIVATION


def formats_of(layer: Layer, spec: ReramSpec) -> tuple[NumberFormat, NumberFormat]:
    """Return the formats of a MAC layer's input (of its state where it is recurrent) and of what it is multiplied with."""
    x, w = layer.operands[:2]
    second = spec.native_activation if w.kind is OperandKind.ACTIVATION else spec.native_weight
    first = x.format or spec.native_activation
    if isinstance(layer.attributes, RecurrentAttributes):
        first = state_format(layer.attributes, first)
    return first, w.format or second


def map_network(network: Network, batch: int, spec: ReramSpec) -> dict[str, LayerMapping]:
    """Return one copy of every layer that crossbars run, by name.

    Raises:
        UnsupportedError: for weights or inputs that are not integers.
        InfeasibleError: for more than 16 bits, or crossbars narrower than a weight.

    """
    maps = {}
    for layer in network.layers:
        unit, where = unit_of(layer, spec), f"{network.name}: layer '{layer.name}'"
        if unit == HOST or layer.op not in MAC_OPS:
            continue
        x, w = formats_of(layer, spec)
        bits, signed = input_width(x, where)
        if unit == VECTOR:
            input_width(w, where)
        else:
            a = layer.attributes
            waits = dependent_products(a) if isinstance(a, RecurrentAttributes) else 0
            writes = batch if is_dynamic(layer) else 0
            maps[layer.name] = map_layer(
                _stored(layer, batch), weight_width(w, where), bits, signed, spec, where, waits=waits, writes=writes
            )
    return maps


@dataclass(frozen=True, slots=True, kw_only=True)
class Converters:
    """The converters of every layer on crossbars, the bits per slice the chip is built with, and `needs`, if weights decide.

    `floored`: some need fewer bits than the law of their costs reaches down to.
    """

    layers: Mapping[str, LayerAdc]
    built_bits: tuple[int, ...]
    needs: Mapping[str, LayerNeeds]
    floored: bool = False


def network_adcs(network: Network, maps: Mapping[str, LayerMapping], spec: ReramSpec) -> Converters:
    """Return the converters of a network (formats filled in); slices that no weight of it has get none.

    Weights that need fewer bits than the survey states get as many as it states. No bits at all: no weight needs a converter.

    Raises:
        UnsupportedError: if the weights decide and the network has none.
        InfeasibleError: if `adc_bits` names fewer slices than a weight has.

    """
    if spec.adc_bits != NEEDED:
        stated = {name: stated_adc(m, spec) for name, m in maps.items()}
        most = max((m.slices for m in maps.values()), default=None)
        return _as_built(stated, spec.stated_adc_bits[:most], {}, spec)
    needs = network_needs(network, maps, spec)
    floored = spec.adc_model is AdcModel.SURVEY and any(
        ((n.bits > 0) & (n.bits < SURVEY_LEAST_BITS)).any() for n in needs.values()
    )
    if floored:
        needs = {
            name: replace(n, bits=np.where(n.bits > 0, np.maximum(n.bits, SURVEY_LEAST_BITS), 0))
            for name, n in needs.items()
        }
    built = built_bits(needs) or (0,)
    layers = {n: needed_adc(needs[n], built, spec) for n in maps}
    return replace(_as_built(layers, built, needs, spec), floored=floored)


def _as_built(
    layers: Mapping[str, LayerAdc], built: tuple[int, ...], needs: Mapping[str, LayerNeeds], spec: ReramSpec
) -> Converters:
    if spec.adc is AdcBuild.RUN_TIME:
        layers = {name: replace(adc, built=max(built)) for name, adc in layers.items()}
    return Converters(layers=layers, built_bits=built, needs=needs)


def network_needs(network: Network, maps: Mapping[str, LayerMapping], spec: ReramSpec) -> dict[str, LayerNeeds]:
    """Return what the weights of every layer on crossbars need; products of two activations need what loses nothing."""
    found = {}
    for layer in network.layers:
        if layer.name not in maps:
            continue
        x, w = formats_of(layer, spec)
        mapping = maps[layer.name]
        found[layer.name] = (
            any_needs(mapping, x.signed, spec) if mapping.writes else layer_needs(layer, w, mapping, x.signed, spec)
        )
    return found


def _stored(layer: Layer, batch: int) -> Gemm:
    """Return the product with the matrices that are stored: a stack of them is that many groups, whatever the batch."""
    view = gemm_view(layer, batch)
    assert view is not None
    if layer.op is not Op.MATMUL:
        return view
    stack = prod(layer.operands[1].shape[:-2])
    return Gemm(m=view.macs // (view.n * view.k * stack), n=view.n, k=view.k, groups=stack)


def chips_for(maps: Iterable[LayerMapping], spec: ReramSpec) -> int:
    """Return the fewest chips that hold one copy of all layers."""
    imas = sum(m.imas for m in maps)
    return max(1, -(-imas // (spec.imas_per_tile * spec.tiles_per_chip)))
