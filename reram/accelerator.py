"""The ReRAM accelerator: evaluates networks on crossbars, and says how a layer is computed there.

Weights stay in crossbars and all layers work at once, as a pipeline: a report's latency is that of the pipeline
(`pipeline.py`), each layer's own time stands with the layer. Costs depend on the weights where `adc_bits` is `needed`, never
on the inputs. Writing the weights stands in a note, outside the totals of an inference.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from picojoule.reram.adcs import widest_bits
from picojoule.reram.area import chip_area, tile_busy_mw, tile_mm2
from picojoule.reram.costs import layer_cost, total_utilization
from picojoule.reram.energy import spent, static_energy
from picojoule.reram.hardware_arithmetic import arithmetic_in, arithmetic_of
from picojoule.reram.notes import notes
from picojoule.reram.plan import Plan, make_plan
from picojoule.reram.spec import AdcRange, PowerPolicy, ReramSpec
from picojoule.reram.units import UNIT_OF_OP
from picojoule.sim.cost import Area, Energy, LayerCost
from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import fill_formats
from picojoule.sim.protocol import Arithmetic, HardwareSpec
from picojoule.sim.report import Report


class ReramAccelerator:
    """Crossbars in IMAs, tiles and chips; immutable, built from its spec."""

    model_version: ClassVar[str] = "2"
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

    @property
    def needs_samples(self) -> bool:
        """Whether `arithmetic_in` takes inputs of layers: calibrated ranges of ADCs come from them."""
        return self.spec.adc_range is AdcRange.CALIBRATED

    @property
    def chips_differ(self) -> bool:
        """Whether what is computed depends on the seed of `arithmetic_in`: cells or converters are left to chance."""
        return self.spec.device is not None and self.spec.device.resolved().has_chance

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
            UnsupportedError: for operators or formats this hardware does not run, and if the weights decide the ADCs of a
                network without any.
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
        layers = tuple(layer_cost(layer, plan, spec) for layer in filled.layers)
        area, latency_s = chip_area(spec, plan.converters.built_bits, used.chips), plan.latency_s
        priced = Priced(
            layers=layers,
            latency_s=latency_s,
            host_latency_s=plan.host_latency_s,
            interval_s=plan.interval_s,
            clock_hz=spec.clock_mhz * 1e6,
            utilization=total_utilization(plan, spec),
            area=area,
            static_energy=_static(plan, layers, area, latency_s, spec),
            chips=used.chips,
            resources={
                "crossbars": sum(m.crossbars * m.copies for m in plan.maps.values()),
                "imas": used.imas,
                "tiles": used.tiles,
                "chips": used.chips,
            },
            assumed_precision=self._native() if assumed else None,
            notes=notes(plan, spec),
        )
        return make_report(filled, spec, self.model_version, priced, batch=batch, seed=seed)

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return how a layer is computed: integer products through crossbars, exact integers elsewhere.

        Raises:
            UnsupportedError: for weights or inputs that are not integers.
            InfeasibleError: for more than 16 bits.

        """
        return arithmetic_of(layer, self.spec)

    def arithmetic_in(
        self, network: Network, *, seed: int = 0, samples: Mapping[str, list[NDArray[Any]]] | None = None
    ) -> Callable[[Layer], Arithmetic]:
        """Return how the layers of a network are computed on this chip, built for it.

        Where `adc_bits` is `needed`, the bits follow the weights of the whole network (`design_time`) or of each row tile
        (`run_time`). `samples` are integer inputs [in, n] by layer and group; `adc_range: calibrated` takes its ranges from
        them. `seed` is the hardware: its devices, layer by layer.

        Raises:
            UnsupportedError: if the network has no weights, or ranges shall be calibrated and there are no samples.

        """
        return arithmetic_in(network, self.spec, seed=seed, samples=samples)

    def area(self, network: Network | None = None) -> Area:
        """Return the area of the chips that hold a network once, or of one chip."""
        if network is None:
            return chip_area(self.spec, widest_bits(self.spec), 1)
        filled, _ = fill_formats(network, self.spec.native_weight, self.spec.native_activation)
        plan = make_plan(filled, 1, None, self.spec)
        return chip_area(self.spec, plan.converters.built_bits, plan.placement.chips)

    def _native(self) -> str:
        weight, activation = self.spec.native_weight, self.spec.native_activation
        return str(weight) if weight == activation else f"{weight} weights, {activation} activations"


def _static(
    plan: Plan, layers: tuple[LayerCost, ...], area: Area, latency_s: float, spec: ReramSpec
) -> tuple[Energy, ...]:
    chips = plan.placement.chips
    built = chips * spec.tiles_per_chip
    tile = tile_mm2(spec, area, chips)
    idle_pj = 0.0
    if spec.power_policy is PowerPolicy.WHOLE_CHIP:
        on_tiles = sum(e.pj for layer in layers for e in layer.energy if e.component not in _OFF_TILES)
        busy_pj = built * tile_busy_mw(spec, plan.converters.built_bits) * latency_s * 1e9
        idle_pj = max(0.0, busy_pj - on_tiles)
    return spent(static_energy(latency_s, tile * plan.placement.tiles, idle_pj, chips, spec))


_OFF_TILES = ("host", "link", "spill", "write", "vector")
"""Components whose busy power is not in the table of a tile's parts."""
