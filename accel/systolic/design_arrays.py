"""Designs side by side: the keys of `SystolicSpec` that the formulas take as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow, FloatArray, IntArray
from picojoule.accel.systolic.traffic import dram_bytes_per_cycle

ARRAY_KEYS = (
    "rows",
    "cols",
    "dataflow",
    "clock_mhz",
    "ifmap_sram_kib",
    "filter_sram_kib",
    "ofmap_sram_kib",
    "sram_kib",
    "dram_gib_per_s",
    "dram_latency_ns",
    "dram_burst_bytes",
    "overlap_load",
    "overlap_drain",
    "vector_lanes",
)
"""Keys that may differ between the designs of one `DesignArrays`; all others are those of its `spec`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignArrays:
    """Designs, an element each; a key they all share may be an array of one, which broadcasts.

    `spec` has their common keys (its values of `ARRAY_KEYS` say nothing). `lanes` are those of the vector unit. Capacities of
    single SRAMs say nothing where one is shared.
    """

    spec: SystolicSpec
    dataflow: IntArray
    rows: IntArray
    cols: IntArray
    lanes: IntArray
    clock_hz: FloatArray
    bytes_per_cycle: FloatArray
    dram_latency_s: FloatArray
    burst_bytes: IntArray
    sram_kib: FloatArray
    ifmap_sram_kib: FloatArray
    filter_sram_kib: FloatArray
    ofmap_sram_kib: FloatArray
    overlap_load: npt.NDArray[np.bool_]
    overlap_drain: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, spec: SystolicSpec, columns: Mapping[str, npt.NDArray[Any]] | None = None) -> "DesignArrays":
        """Return designs that differ from `spec` by `columns` (key -> checked values, all of one length).

        Dataflows are codes of `Dataflow`, and 0 `vector_lanes` are as many as there are columns.
        """
        given = {key: [getattr(spec, key)] for key in ARRAY_KEYS}
        given |= {
            "dataflow": [int(Dataflow.of(spec.dataflow))],
            "vector_lanes": [spec.vector_lanes or 0],
            "sram_kib": [spec.sram_kib or 0.0],
        }
        values = given | dict(columns or {})

        def whole(key: str) -> IntArray:
            return np.asarray(values[key], dtype=np.int64)

        def real(key: str) -> FloatArray:
            return np.asarray(values[key], dtype=np.float64)

        clock_hz = real("clock_mhz") * 1e6
        return cls(
            spec=spec,
            dataflow=whole("dataflow"),
            rows=whole("rows"),
            cols=whole("cols"),
            lanes=np.where(whole("vector_lanes") == 0, whole("cols"), whole("vector_lanes")),
            clock_hz=clock_hz,
            bytes_per_cycle=dram_bytes_per_cycle(real("dram_gib_per_s") * 2**30, clock_hz),
            dram_latency_s=real("dram_latency_ns") * 1e-9,
            burst_bytes=whole("dram_burst_bytes"),
            sram_kib=real("sram_kib"),
            ifmap_sram_kib=real("ifmap_sram_kib"),
            filter_sram_kib=real("filter_sram_kib"),
            ofmap_sram_kib=real("ofmap_sram_kib"),
            overlap_load=np.asarray(values["overlap_load"], dtype=bool),
            overlap_drain=np.asarray(values["overlap_drain"], dtype=bool),
        )

    @property
    def buffers(self) -> tuple[tuple[str, FloatArray], ...]:
        """The SRAMs and their capacities, KiB."""
        if self.spec.sram == "shared":
            return (("shared", self.sram_kib),)
        return (("ifmap", self.ifmap_sram_kib), ("filter", self.filter_sram_kib), ("ofmap", self.ofmap_sram_kib))

    @property
    def sram_bytes(self) -> tuple[IntArray, ...]:
        """Capacities of the ifmap, filter and ofmap SRAM."""
        kibs = (self.ifmap_sram_kib, self.filter_sram_kib, self.ofmap_sram_kib)
        return tuple((kib * 1024).astype(np.int64) for kib in kibs)

    @property
    def shared_sram_bytes(self) -> IntArray | None:
        """Capacity of the SRAM that all operands share, None where each has its own."""
        return (self.sram_kib * 1024).astype(np.int64) if self.spec.sram == "shared" else None
