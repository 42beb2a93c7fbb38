"""The ReRAM accelerator: evaluates networks on crossbars, and says how a layer is computed there.

Weights stay in crossbars and all layers work at once, as a pipeline: a report's latency is that of the pipeline
(`pipeline.py`), each layer's own time stands with the layer. Costs do not depend on data. Left out: time on links,
routers and buffers, writing weights, and spills of buffers that are too small (noted).
"""

from pathlib import Path
from typing import ClassVar

from picojoule.reram.area import chip_area, tile_mm2
from picojoule.reram.costs import buffer_shortage, layer_cost, total_utilization
from picojoule.reram.energy import spent, static_energy
from picojoule.reram.plan import HOST, UNIT_OF_OP, VECTOR, Plan, chips_for, formats_of, make_plan, map_network, unit_of
from picojoule.reram.product import programmer
from picojoule.reram.spec import ReramSpec, input_width, weight_width
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.cost import Area
from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.formats import Structure
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import fill_formats
from picojoule.sim.protocol import FLOAT, Arithmetic, HardwareSpec
from picojoule.sim.report import Report


class ReramAccelerator:
    """Crossbars in IMAs, tiles and chips; immutable, built from its spec."""

    model_version: ClassVar[str] = "1"
    spec_type: ClassVar[type[HardwareSpec]] = ReramSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = UNIT_OF_OP
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
            raise UnsupportedError("crossbars have one mapping, so there is nothing to search; use --mapping default")
        if mapping != "default":
            raise InputError(unknown_choice("mapping", mapping, ["default", "search"]))
        if chips is not None and chips < 1:
            raise InputError(f"chips must be at least 1 or auto, got {chips}")
        spec = self.spec
        filled, assumed = fill_formats(network, spec.native_weight, spec.native_activation)
        plan = make_plan(filled, batch, chips, spec)
        used = plan.placement
        tile = tile_mm2(spec)
        static = static_energy(
            plan.latency_s, tile * used.tiles, tile * spec.tiles_per_chip * used.chips, used.chips, spec
        )
        priced = Priced(
            layers=tuple(layer_cost(layer, plan, spec) for layer in filled.layers),
            latency_s=plan.latency_s,
            host_latency_s=plan.host_latency_s,
            interval_s=plan.interval_s,
            clock_hz=spec.clock_mhz * 1e6,
            utilization=total_utilization(plan, spec),
            area=chip_area(spec, used.chips),
            static_energy=spent(static),
            chips=used.chips,
            resources={
                "crossbars": sum(m.crossbars * m.copies for m in plan.maps.values()),
                "imas": used.imas,
                "tiles": used.tiles,
                "chips": used.chips,
            },
            assumed_precision=self._native() if assumed else None,
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
        x, w = formats_of(layer, self.spec)
        unit = unit_of(layer, self.spec)
        if unit == HOST:
            return Arithmetic(weight=w, activation=x, note="host")
        where = f"layer '{layer.name}'"
        input_bits, signed = input_width(x, where)
        if unit == VECTOR:
            input_width(w, where)
            return Arithmetic(weight=w, activation=x, note="digital unit")
        weight_bits = weight_width(w, where)
        note = f"crossbars: {self.spec.encoding.value} encoding, {self.spec.adc_bits}-bit ADC"
        program = programmer(self.spec, weight_bits, input_bits, signed)
        return Arithmetic(weight=w, activation=x, program=program, note=note)

    def area(self, network: Network | None = None) -> Area:
        """Return the area of the chips that hold a network once, or of one chip."""
        if network is None:
            return chip_area(self.spec, 1)
        filled, _ = fill_formats(network, self.spec.native_weight, self.spec.native_activation)
        return chip_area(self.spec, chips_for(map_network(filled, 1, self.spec).values(), self.spec))

    def _native(self) -> str:
        weight, activation = self.spec.native_weight, self.spec.native_activation
        return str(weight) if weight == activation else f"{weight} weights, {activation} activations"

    def _notes(self, plan: Plan) -> tuple[str, ...]:
        """Return the remarks that every result repeats."""
        notes = ["layers overlap in a pipeline: latencies of layers need not sum to the total"]
        if plan.interval_s > 0:
            slowest = max(plan.stages, key=lambda name: plan.stages[name])
            notes.append(f"the slowest pipeline stage is '{slowest}'")
        mapped = [layer for layer in plan.network.layers if layer.name in plan.maps]
        sparse = [layer for layer in mapped if layer.operands[1].sparsity.structure is not Structure.DENSE]
        if sparse:
            notes.append(f"zero weights keep their cells: the sparsity of {len(sparse)} layer(s) saves nothing here")
        shortage = buffer_shortage(plan, self.spec)
        return (*notes, shortage) if shortage else tuple(notes)
