"""A systolic array as an `Accelerator`: prices every layer of a network, and says how it multiplies.

MAC layers run on the array as GEMMs (timing and traffic in their own files), small groups side by side. An activation or
batch norm that directly follows an array layer runs in the array's output path: it costs its operations, no time and no
traffic. Other layers run on the vector unit, from and to DRAM (an address generator looks values up there: embeddings, gathers,
scatters). What visits single elements in an order that depends on data runs on the host: deformable convolution and grid
samples, which read four neighbours at a time, and sorting. Values stay on chip between layers where `keep_on_chip` says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.designs import DesignPricing
from picojoule.accel.systolic.energy import EnergyModel, single
from picojoule.accel.systolic.layer_costs import layer_costs
from picojoule.accel.systolic.load import Load, load_of
from picojoule.accel.systolic.mapping_ways import best_of
from picojoule.accel.systolic.pe_formats import arithmetic_of, check_pe_format, native_formats
from picojoule.accel.systolic.resident_load import resident_load
from picojoule.accel.systolic.shortage import shortages
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.spec_notes import spec_notes
from picojoule.accel.systolic.totals import Totals, totals_of
from picojoule.accel.systolic.workload import UNIT_OF_OP
from picojoule.sim.attributes import Op
from picojoule.sim.cost import Area, AreaItem
from picojoule.sim.designs import DesignTotals
from picojoule.sim.errors import InfeasibleError, InputError, unknown_choice
from picojoule.sim.evaluation import Priced, Sums, check_evaluation, make_report
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Layer, Network
from picojoule.sim.lazy import LazySequence
from picojoule.sim.protocol import Arithmetic, HardwareSpec
from picojoule.sim.report import Report
from picojoule.sim.technology import dram_key


class SystolicArray:
    """A systolic array built from its spec."""

    model_version: ClassVar[str] = "2"
    spec_type: ClassVar[type[HardwareSpec]] = SystolicSpec
    preset_folder: ClassVar[Path] = Path(__file__).parent / "presets"
    unit_of_op: ClassVar[dict[str, str]] = UNIT_OF_OP

    def __init__(self, spec: SystolicSpec) -> None:
        self._spec = spec
        check_pe_format(spec)
        dram_key(spec.dram_type)  # an unknown type is refused here, not at the first layer
        self._design = DesignArrays.of(spec)

    @property
    def spec(self) -> SystolicSpec:
        """The checked hardware description."""
        return self._spec

    # --- how it computes --------------------------------------------------------------------------------------------

    @property
    def native(self) -> tuple[NumberFormat, NumberFormat]:
        """Weight format (one scale per output channel) and activation format where nothing sets another."""
        return native_formats(self.spec)

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return exact integer products in wrapping accumulators, in the layer's formats or the native ones; other PEs theirs.

        Raises:
            UnsupportedError: for a format that the PEs do not multiply.
            InfeasibleError: for more bits than the PEs have.

        """
        if layer.op is Op.DEFORM_CONV:
            return Arithmetic(note="host, floating point")
        return arithmetic_of(layer, self.spec)

    # --- what it costs ----------------------------------------------------------------------------------------------

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
        """Return the cost of `batch` samples; layers run one after the other.

        `activations`: an `ActivationSource` (toggles, gating by zero activations), or `ExecutionPatterns` (closed channel gates,
        resting blocks), which may hold such a source.

        Raises:
            InputError: for a bad batch or sizes beyond 64 bits.
            UnsupportedError: for operators, formats or mappings that cannot run.
            InfeasibleError: for more bits than the PEs have, or SRAMs too small for a layer.

        """
        check_evaluation(network, batch, allow_unsupported)
        if chips is not None and chips < 1:
            raise InputError(f"chips must be at least 1, got {chips}")
        if mapping not in ("default", "search"):
            raise InputError(unknown_choice("mapping", mapping, ["default", "search"]))
        load = load_of(network, self.spec, batch, activations)
        totals = totals_of(load, self._design)
        if totals.short.any():
            raise InfeasibleError(shortages(load, self._design)[0])
        ways = [(load, totals)]
        if self.spec.keep_on_chip and (kept := resident_load(load, self._design)) is not load:
            ways.append((kept, totals_of(kept, self._design)))
        load, totals = ways[-1]
        if mapping == "search" and load.kinds is not None:
            load, totals = best_of(ways, self.spec.mapping_objective)
        return self._report(load, totals, seed)

    def price_designs(self, network: Network, keys: Mapping[str, NDArray[Any]], *, batch: int = 1) -> DesignTotals:
        """Return the totals of many designs that differ from this one by `keys`, in one array call.

        Every key of the spec may vary, and all networks can be priced that `evaluate` prices, recurrent ones too. A design
        whose PEs are too narrow or SRAMs too small for the network is NaN with evaluate's reason. Takes below 100 MB beside keys
        and result.

        Raises:
            InputError: for a bad batch, key, value or sizes beyond 64 bits.
            UnsupportedError: for operators or formats that cannot run.

        """
        return DesignPricing(self._spec).price(network, keys, batch)

    def area(self, network: Network | None = None) -> Area:
        """Return the area of MACs, registers, SRAMs and vector unit, whatever the network.

        A report adds the tables of its network's channel orders (`weight_order: segments`).
        """
        return EnergyModel(self._design).area()

    def _report(self, load: Load, totals: Totals, seed: int) -> Report:
        spec, workload = self.spec, load.workload
        notes = [*load.notes, *spec_notes(spec)]
        if spec.compat == "scalesim":
            notes.append("compat scalesim: cycles and SRAM words as SCALE-Sim 3.0.0 counts them; the rest is ours")
        utilization = single(totals.utilization)
        priced = Priced(
            layers=LazySequence(len(workload.network.layers), lambda: layer_costs(load, totals)),
            latency_s=single(totals.latency_s),
            host_latency_s=load.host_latency_s,
            interval_s=single(totals.latency_s),
            clock_hz=spec.clock_mhz * 1e6,
            utilization=None if np.isnan(utilization) else utilization,
            area=Area(
                items=tuple(
                    AreaItem(component=a.component, constant=a.constant, mm2=single(a.mm2)) for a in totals.areas
                )
            ),
            static_energy=tuple(line.single() for line in totals.leakage),
            assumed_precision=str(native_formats(spec)[0]) if workload.assumed else None,
            notes=tuple(notes),
            sums=Sums(
                macs=load.macs,
                compute_cycles=int(totals.compute.item()),
                stall_cycles=int(totals.stalls.item()),
                energy_dynamic_pj=single(totals.dynamic_pj),
            ),
        )
        return make_report(workload.network, spec, self.model_version, priced, batch=workload.batch, seed=seed)
