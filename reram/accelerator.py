"""The ReRAM accelerator: evaluates networks on crossbars, and says how a layer is computed there.

Weights stay in crossbars and all layers work at once, as a pipeline (`pipeline`): a report's latency is that of the pipeline,
each layer's own time stands with the layer. Costs do not depend on data yet. Left out: time of links, routers and buffers,
writing weights, and spills of buffers that are too small (noted).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from picojoule.reram import energy
from picojoule.reram.area import chip_area, tile_mm2
from picojoule.reram.mapping import LayerMapping, balanced_copies, map_layer
from picojoule.reram.pipeline import batch_latency_s, fill_s, wait
from picojoule.reram.placement import Home, Placement, place
from picojoule.reram.product import programmer
from picojoule.reram.spec import DynamicMatmul, Replication, ReramSpec, input_width, weight_width
from picojoule.sim.attributes import MAC_OPS, Op
from picojoule.sim.cost import Area, Energy, LayerCost
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.formats import NumberFormat
from picojoule.sim.gemm import Gemm, gemm_view, layer_macs
from picojoule.sim.ir import Layer, Network, Operand, OperandKind
from picojoule.sim.passes import fill_formats, result_bytes
from picojoule.sim.protocol import FLOAT, Arithmetic, HardwareSpec
from picojoule.sim.report import Report
from picojoule.sim.vector_unit import VectorWork, host_cost, lane_operations, vector_work

_ON_CROSSBARS = frozenset({Op.CONV, Op.LINEAR, Op.MATMUL})
_ON_HOST = frozenset({Op.DEFORM_CONV, Op.EMBEDDING})


def _usual_unit(op: Op) -> str:
    if op is Op.OPAQUE:
        return "unsupported"
    return "crossbar" if op in _ON_CROSSBARS else "host" if op in _ON_HOST else "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A network on the design: units, mappings, places and times of its layers (times for the whole batch)."""

    network: Network
    batch: int
    units: Mapping[str, str]
    maps: Mapping[str, LayerMapping]
    works: Mapping[str, VectorWork]
    inline: frozenset[str]
    placement: Placement
    service_s: Mapping[str, float]
    depth_s: Mapping[str, float]
    interval_s: float
    bottleneck: str


class ReramAccelerator:
    """Crossbars in IMAs, tiles and chips; immutable, built from its spec."""

    model_version: ClassVar[str] = "1"
    spec_type: ClassVar[type[HardwareSpec]] = ReramSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = {op.value: _usual_unit(op) for op in Op}
    """Unit per operator; a product of two activations runs where `dynamic_matmul` says."""

    def __init__(self, spec: ReramSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ReramSpec:
        """The checked hardware description."""
        return self._spec

    def evaluate(
        self,
        network: Network,
        *,
        batch: int = 1,
        activations: object | None = None,
        mapping: str = "default",
        seed: int = 0,
        chips: int | None = 1,
        allow_unsupported: bool = False,
    ) -> Report:
        """Return the cost of `batch` samples; `chips` None takes as many as the weights need.

        Raises:
            InputError: for a bad batch, number of chips or mapping.
            UnsupportedError: for operators or formats this hardware does not run.
            InfeasibleError: if the weights do not fit the chips, naming how many they need.

        """
        check_evaluation(network, batch, allow_unsupported)
        if mapping == "search":
            raise UnsupportedError("crossbars have one mapping, there is nothing to search; use --mapping default")
        if mapping != "default":
            raise InputError(unknown_choice("mapping", mapping, ["default", "search"]))
        if chips is not None and chips < 1:
            raise InputError(f"chips must be at least 1 or auto, got {chips}")
        spec = self.spec
        filled, assumed = fill_formats(network, spec.native_weight, spec.native_activation)
        plan = self._plan(filled, batch, chips)
        fill, interval = self._times(plan)
        latency = batch_latency_s(fill, interval, batch)
        without_host = self._without_host(plan)
        area = chip_area(spec, plan.placement.chips)
        priced = Priced(
            layers=tuple(self._cost(layer, plan) for layer in filled.layers),
            latency_s=latency,
            host_latency_s=max(0.0, latency - without_host),
            interval_s=plan.interval_s,
            clock_hz=spec.clock_mhz * 1e6,
            utilization=self._utilization(plan),
            area=area,
            static_energy=energy.spent(
                energy.static_energy(
                    latency,
                    tile_mm2(spec) * plan.placement.tiles,
                    tile_mm2(spec) * spec.tiles_per_chip * plan.placement.chips,
                    plan.placement.chips,
                    spec,
                )
            ),
            chips=plan.placement.chips,
            resources=self._resources(plan),
            assumed_precision=self._precision() if assumed else None,
            notes=self._notes(plan),
        )
        return make_report(filled, spec, self.model_version, priced, batch=batch, seed=seed)

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return how a layer is computed: integer products through crossbars, exact integers elsewhere.

        Raises:
            UnsupportedError: for weights or inputs that are not integers.
            InfeasibleError: for more than 16 bits.

        """
        if layer.op not in MAC_OPS:
            return FLOAT
        x, w = self._formats(layer)
        unit = self._unit(layer)
        if unit == "host":
            return Arithmetic(weight=w, activation=x, note="host")
        where = f"layer '{layer.name}'"
        (input_bits, signed), weight_bits = input_width(x, where), weight_width(w, where)
        if unit == "vector":
            return Arithmetic(weight=w, activation=x, note="digital unit")
        if layer.op is Op.MATMUL and len(layer.operands[1].shape) != 2:
            return Arithmetic(weight=w, activation=x, note="stack of matrices: crossbars taken as exact")
        return Arithmetic(
            weight=w,
            activation=x,
            program=programmer(self.spec, weight_bits, input_bits, signed),
            note=f"crossbars, {self.spec.encoding.value}, {self.spec.adc_bits}-bit ADC",
        )

    def area(self, network: Network | None = None) -> Area:
        """Return the area of the chips a network needs, or of one chip."""
        if network is None:
            return chip_area(self.spec, 1)
        filled, _ = fill_formats(network, self.spec.native_weight, self.spec.native_activation)
        return chip_area(self.spec, self._chips(self._map(filled, 1).values()))

    # --- where everything runs --------------------------------------------------------------------------------------

    def _unit(self, layer: Layer) -> str:
        usual = self.unit_of_op[layer.op.value]
        if usual != "crossbar" or layer.operands[1].kind is not OperandKind.ACTIVATION:
            return usual
        match self.spec.dynamic_matmul:
            case DynamicMatmul.DIGITAL:
                return "vector"
            case DynamicMatmul.HOST:
                return "host"
            case DynamicMatmul.WRITE:
                raise UnsupportedError(
                    f"layer '{layer.name}': dynamic_matmul 'write' would write crossbars for every product, and no "
                    "technology constant prices writing; use 'digital' or 'host'"
                )

    def _formats(self, layer: Layer) -> tuple[NumberFormat, NumberFormat]:
        """Return the formats of a MAC layer's input and weight (the second factor)."""
        x, w = layer.operands[:2]
        second = self.spec.native_activation if w.kind is OperandKind.ACTIVATION else self.spec.native_weight
        return x.format or self.spec.native_activation, w.format or second

    def _map(self, network: Network, batch: int) -> dict[str, LayerMapping]:
        maps = {}
        for layer in network.layers:
            if self._unit(layer) != "crossbar":
                continue
            x, w = self._formats(layer)
            where = f"{network.name}: layer '{layer.name}'"
            bits, signed = input_width(x, where)
            maps[layer.name] = map_layer(_stored(layer, batch), weight_width(w, where), bits, signed, self.spec, where)
        return maps

    def _chips(self, maps: "Mapping[str, LayerMapping] | object") -> int:
        imas = sum(m.imas for m in maps)  # type: ignore[attr-defined]
        return max(1, -(-imas // (self.spec.imas_per_tile * self.spec.tiles_per_chip)))

    def _replicated(self, maps: dict[str, LayerMapping], batch: int, chips: int) -> dict[str, LayerMapping]:
        if self.spec.replication is Replication.NONE:
            return maps
        copies = balanced_copies(
            [m.service_s(self.spec) for m in maps.values()],
            [max(1, m.gemm.m // batch) for m in maps.values()],
            [m.imas for m in maps.values()],
            chips * self.spec.tiles_per_chip * self.spec.imas_per_tile,
        )
        return {name: replace(m, copies=c) for (name, m), c in zip(maps.items(), copies, strict=True)}
