"""A deformable-convolution engine on an FPGA as an `Accelerator`: prices every layer, and says how it multiplies.

The engine runs one call at a time, the host what the engine lacks, one after the other (CoDeNet's driver waits for each
call). Nothing stays on chip between calls. What follows a convolution in its requantiser, or serves only to make its offsets,
takes no time of its own.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import ClassVar

from picojoule.accel.deform.boards import board_named
from picojoule.accel.deform.offsets_given import GivenOffsets
from picojoule.accel.deform.plan import Placed, Plan, placed, plan_of
from picojoule.accel.deform.power import NOTE, static_energy
from picojoule.accel.deform.reach import HOLDING, holds_map
from picojoule.accel.deform.resources import check_fits, resource_notes, resources_of
from picojoule.accel.deform.roles import ENGINE_ROLES, UNIT_OF_OP, Role, check_formats, choose
from picojoule.accel.deform.rows import Rows, rows_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import MAC_OPS, Op
from picojoule.sim.cost import Area
from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice
from picojoule.sim.evaluation import Priced, check_evaluation, make_report
from picojoule.sim.formats import Structure
from picojoule.sim.ir import Layer, Network
from picojoule.sim.protocol import FLOAT, Arithmetic, HardwareSpec, OffsetArithmetic
from picojoule.sim.report import Report
from picojoule.sim.technology import all_constants, dram_key


class DeformUnit:
    """An engine on its board, built from its spec.

    Raises:
        InputError: for an unknown board, DRAM type or host.

    """

    model_version: ClassVar[str] = "1"
    spec_type: ClassVar[type[HardwareSpec]] = DeformSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = UNIT_OF_OP

    def __init__(self, spec: DeformSpec) -> None:
        self._spec = spec
        board_named(spec.board)  # unknown names are refused here, not at the first layer
        dram_key(spec.dram)
        _check_host(spec.host)

    @property
    def spec(self) -> DeformSpec:
        """The checked hardware description."""
        return self._spec

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return exact integer products in wrapping accumulators, in the layer's formats or the native ones.

        The engine samples whole pixels inside its line buffer; the host samples between them. A layer on its own does not
        say how far its offsets go: `arithmetic_in` knows, and is what twins and accuracies use.

        Raises:
            UnsupportedError: for a format on the engine that is not integer.
            InfeasibleError: for more bits than the engine has.

        """
        if layer.op not in MAC_OPS:
            return FLOAT
        return arithmetic_of(layer, self.spec)

    def arithmetic_in(
        self, network: Network, *, seed: int = 0, samples: object = None
    ) -> Callable[[Layer], Arithmetic]:
        """Return how the layers of a network are computed where `evaluate` places them; raises as `arithmetic` does, then.

        Every unit computes alike, whatever the data: `seed` and `samples` change nothing.

        Deformable layers that the host runs sample between pixels, with no accumulators of the engine's width; those whose
        outermost taps lie beyond the line buffer are held at its edge.
        """
        found = placed(network, self.spec)

        def arithmetic(layer: Layer) -> Arithmetic:
            return arithmetic_of(layer, self.spec, found) if layer.op in MAC_OPS else FLOAT

        return arithmetic

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
        """Return the cost of `batch` samples; `activations` is an `OffsetTrace` or `OffsetStatistics`.

        Raises:
            InputError: for a bad batch, mapping or offsets, or sizes beyond 64 bits.
            UnsupportedError: for operators, formats or mappings that cannot run.
            InfeasibleError: for an engine its board cannot hold, more bits than it has, maps it cannot cut.

        """
        check_evaluation(network, batch, allow_unsupported)
        if chips is not None and chips != 1:
            raise InputError(f"an fpga-deform unit is one board: chips must be 1 or auto, got {chips}")
        if mapping == "search":
            raise UnsupportedError("the engine has one mapping, so there is nothing to search; use --mapping default")
        if mapping != "default":
            raise InputError(unknown_choice("mapping", mapping, ["default", "search"]))
        offsets = GivenOffsets.of(activations)
        check_fits(self.spec)
        plan = plan_of(network, batch, self.spec)
        offsets.check(plan.network, plan.samplings)
        remarks = offsets.notes(plan.readings, plan.samplings)
        return self._report(plan, rows_of(plan, self.spec, offsets, seed), remarks, seed)

    def area(self, network: Network | None = None) -> Area:
        """Return no area: an FPGA has resources instead (`totals.resources`)."""
        return Area()

    def _report(self, plan: Plan, rows: Rows, remarks: list[str], seed: int) -> Report:
        spec = self.spec
        clock_hz = spec.clock_mhz * 1e6
        latency_s = rows.engine_cycles / clock_hz + rows.host_s
        return make_report(
            plan.network,
            spec,
            self.model_version,
            Priced(
                layers=rows.layers,
                latency_s=latency_s,
                host_latency_s=rows.host_s,
                interval_s=latency_s,
                clock_hz=clock_hz,
                utilization=rows.utilization,
                area=Area(),
                static_energy=static_energy(latency_s, spec, host_s=rows.host_s),
                resources=_resources(spec),
                assumed_precision=_native(spec) if plan.assumed else None,
                notes=(*plan.notes, *remarks, *_notes(plan, spec), *resource_notes(spec), NOTE),
            ),
            batch=plan.batch,
            seed=seed,
        )


def arithmetic_of(layer: Layer, spec: DeformSpec, found: Placed | None = None) -> Arithmetic:
    """Return how a MAC layer is computed, on the engine or on the host; `found` places those of its network."""
    weight = layer.operands[1].format or (spec.native_weight if layer.parameters else spec.native_activation)
    activation = layer.operands[0].format or spec.native_activation
    choice = found.choices.get(layer.name) if found else None
    if (choice or choose(layer, spec)).role not in ENGINE_ROLES:
        return Arithmetic(weight=weight, activation=activation, note=f"host, {weight} x {activation}")
    check_formats(layer, spec, weight, activation)
    deformable = layer.op is Op.DEFORM_CONV
    if found and layer.name in found.readings:
        held = found.readings[layer.name] in HOLDING
    else:
        held = deformable and spec.far_reads == "clamp" and not holds_map(layer, spec)
    return Arithmetic(
        weight=weight,
        activation=activation,
        accumulator_bits=spec.accumulator_bits,
        offsets=OffsetArithmetic(rounded=True, reach=spec.reach if held else None) if deformable else None,
        note=f"{weight} x {activation}, {spec.accumulator_bits}-bit accumulators",
    )


def _check_host(name: str) -> None:
    known = sorted({key.split(".")[1] for key in all_constants() if key.startswith("host.")})
    if name not in known:
        raise InputError(unknown_choice("host", name, known))


def _resources(spec: DeformSpec) -> dict[str, object]:
    found = resources_of(spec)
    used = {name: getattr(found, name) for name in ("dsp", "bram36", "lut", "ff")}
    shares = {f"{name}_share": round(count / getattr(found.board, name), 4) for name, count in used.items()}
    return {**used, "board": f"{found.board.name} ({found.board.device})", **shares}


def _native(spec: DeformSpec) -> str:
    return f"{spec.native_weight} weights, {spec.native_activation} activations"


def _notes(plan: Plan, spec: DeformSpec) -> list[str]:
    """Return the remarks about the network that do not come from placing it."""
    notes = []
    if not board_named(spec.board).hard_processor:
        notes.append(
            f"{spec.board} has no processor: the host ({spec.host}) is a device of its own, links to it cost nothing here"
        )
    if any(o.sparsity.structure is not Structure.DENSE for layer in plan.network.layers for o in layer.operands):
        notes.append("zeros save nothing here: the engine multiplies them like any other value")
    if any(len(job.layers) == 2 for job in plan.jobs):
        notes.append(
            "a 1x1 layer and the 3x3 layer behind it share a call: the first row has the time the call would take without the "
            "second, the second row what it adds"
        )
    shifted = [
        layer.name
        for layer in plan.network.layers
        if plan.choices[layer.name].role is Role.LOWERED and prod(layer.operands[1].shape[2:]) > 1
    ]
    if shifted:
        notes.append(
            f"{len(shifted)} convolution(s) that are neither 1x1 nor depthwise 3x3 run as shifted 1x1 passes with partial sums "
            "in DRAM; depthwise 3x3 and 1x1 pairs suit this engine"
        )
    return notes
