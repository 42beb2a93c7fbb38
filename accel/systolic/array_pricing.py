"""Counts what the layers on the array do: all of a network on one design or many, in one call of the formulas."""

from dataclasses import dataclass, replace

import numpy as np

from picojoule.accel.systolic import capacity, pattern_counts, pipeline, timing, traffic
from picojoule.accel.systolic.counts import SHARES, Counts, Schedules, Shares
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.job_arrays import JobArrays
from picojoule.accel.systolic.load import Kinds
from picojoule.accel.systolic.port_accesses import port_accesses
from picojoule.accel.systolic.recurrence import carry
from picojoule.accel.systolic.residency import array_traffic
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import FloatArray, FoldGrid, IntArray


@dataclass(frozen=True, slots=True)
class ArrayPricing:
    """Counts what array layers do on designs."""

    designs: DesignArrays

    @property
    def spec(self) -> SystolicSpec:
        """The keys that all designs share."""
        return self.designs.spec

    def schedules(self, kinds: Kinds, batch: int) -> Schedules:
        """Return the counts of kinds of layers, of the schedule that moves fewer bytes for each kind and design.

        A batch runs at once, or its samples one after the other where that moves fewer bytes (what fits the SRAMs for one
        sample may not for all).

        Raises:
            InputError: if a count would leave 64 bits.

        """
        whole = self.counts(kinds.whole)
        if kinds.sample is None:
            return Schedules(chosen=whole, whole=whole)
        sample = self.counts(kinds.sample)
        fewer = sample.moved_bytes < -(-whole.moved_bytes // batch)  # the sample's times the batch might wrap
        apart = np.asarray(fewer | whole.short)
        chosen = sample.repeated(batch, apart, whole)
        return Schedules(chosen=chosen, whole=whole, sample=sample, apart=apart)

    def shares(self, kinds: Kinds, schedules: Schedules) -> Shares:
        """Return the shares of MAC slots in the chosen schedules."""
        whole = self._shares(kinds.whole, schedules.whole)
        if kinds.sample is None or schedules.sample is None:
            return whole
        sample = self._shares(kinds.sample, schedules.sample)
        return Shares(
            **{name: np.where(schedules.apart, getattr(sample, name), getattr(whole, name)) for name in SHARES}
        )

    def counts(self, jobs: JobArrays) -> Counts:
        """Return what jobs do when each runs at once.

        Raises:
            InputError: if a count would leave 64 bits.

        """
        if not jobs.always_bounded:
            jobs.check_bounds(self.designs)
        d, scalesim = self.designs, self.spec.compat == "scalesim"
        design = (d.dataflow, d.rows, d.cols)
        m, n, k, groups = jobs.m, jobs.n, jobs.k, jobs.groups
        steps, between = jobs.steps, jobs.steps.cycles(d.lanes)
        grid = timing.fold_grid(*design, m, n, k)
        folded = grid if jobs.folded_k is k else timing.fold_grid(*design, m, n, jobs.folded_k)
        timed = jobs.timed(d)
        timed_grid = folded if timed[0] is m and timed[2] is jobs.folded_k else timing.fold_grid(*design, *timed)
        together = self.together(jobs, folded)
        ours = traffic.sram_counts(*design, m, n, k, groups, grid=grid)
        sums = ours if folded is grid else traffic.sram_counts(*design, m, n, jobs.folded_k, groups, grid=folded)
        accesses = port_accesses(folded, d.rows, groups, together)
        ifmap_reads, filter_reads = ours.ifmap_reads, ours.filter_reads
        if jobs.saves:
            ifmap_reads = ifmap_reads // k * jobs.read_k
            filter_reads = filter_reads // jobs.turn_weights * jobs.stored_words
        if jobs.given_ports is not None:
            ifmap_reads, filter_reads, sums, accesses = pattern_counts.given_words(
                jobs, ifmap_reads, filter_reads, sums, accesses, d.cols
            )
        products = jobs.products
        carried = carry(
            steps,
            d,
            (jobs.activation_bits, jobs.weight_bits),
            products,
            jobs.turn_weights,
            self._moved(jobs, grid, folded, together),
        )
        moved = (
            pattern_counts.left(jobs, carried.traffic, self.spec.accumulator_bits) if jobs.saves else carried.traffic
        )
        if jobs.kept is not None:
            moved = self._resident(jobs, moved)
        bits: tuple[IntArray | FloatArray, ...] = (jobs.weight_bits, jobs.activation_bits, jobs.result_bits)
        if jobs.exponents is not None:
            moved = self._with_exponents(jobs.exponents, moved)
            bits = tuple(b + e for b, e in zip(bits, jobs.exponents, strict=True))
        compute, stretch = self._compute(jobs, timed_grid, together, between)
        stalls = pipeline.stall_cycles(
            moved,
            timed_grid,
            d.cols,
            groups,
            bus=self._bus,
            words=pipeline.Words(
                ifmap_bits=bits[1],
                filter_bits=bits[0],
                ofmap_bits=bits[2],
                accumulator_bits=self.spec.accumulator_bits,
                other_read_bytes=jobs.other_bytes,
            ),
            together=together,
            overlap_load=d.overlap_load & (not scalesim),  # SCALE-Sim has neither
            overlap_drain=d.overlap_drain & (not scalesim),
            stretch=stretch,
        )
        ofmap_writes = (
            traffic.scalesim_sram_counts(*design, m, n, k, groups).ofmap_writes if scalesim else sums.ofmap_writes
        )
        psum_reads = np.zeros_like(sums.psum_reads) if scalesim else sums.psum_reads
        psum_writes = np.maximum(0, sums.ofmap_writes - jobs.array_outputs)
        here = steps.present
        made = Counts(
            compute=compute,
            stalls=stalls,
            dependence=between,
            useful=timing.useful_slots(*timed, groups) - jobs.idle_slots * jobs.serial,
            ifmap_reads=ifmap_reads,
            ifmap_writes=carried.ifmap_writes,
            filter_reads=filter_reads,
            ofmap_writes=ofmap_writes + carried.psum_writes + (jobs.outputs - jobs.array_outputs),
            psum_writes=psum_writes + carried.psum_writes,
            psum_reads=psum_reads + jobs.landing + carried.psum_reads,
            dram_ifmap=moved.ifmap_reads,
            dram_gates=steps.gates + steps.given,
            dram_filter=moved.filter_reads,
            dram_psum_reads=moved.psum_reads,
            dram_psum_writes=moved.psum_writes,
            dram_read_bytes=moved.read_bytes + jobs.bias_bytes,
            dram_write_bytes=moved.write_bytes,
            edge_psum_writes=psum_writes,
            edge_psum_reads=psum_reads,
            ifmap_accesses=accesses.ifmap_reads,
            filter_accesses=accesses.filter_reads,
            psum_write_accesses=accesses.psum_writes + (np.where(steps.here, accesses.outputs, 0) if here else 0),
            psum_read_accesses=accesses.psum_reads,
            output_accesses=np.where(steps.here, -(-jobs.outputs // d.cols), accesses.outputs)
            if here
            else accesses.outputs,
            shifts=accesses.shifts,
            tiles=accesses.tiles,
            short=self.needs(jobs, folded, together).short(d.sram_bytes, d.shared_sram_bytes),
        )
        made.check_cycles()
        return made

    def needs(self, jobs: JobArrays, grid: FoldGrid, together: IntArray | int) -> capacity.Needs:
        """Return the least bytes of each SRAM, [layers, designs]."""
        return capacity.least_needs(
            grid,
            self.designs.cols,
            ifmap_bits=jobs.activation_bits,
            filter_bits=jobs.weight_bits,
            ofmap_bits=jobs.result_bits,
            accumulator_bits=self.spec.accumulator_bits,
            together=together,
        )

    @property
    def _bus(self) -> pipeline.Bus:
        d = self.designs
        return pipeline.Bus(
            bytes_per_cycle=d.bytes_per_cycle,
            latency_cycles=d.dram_latency_s * d.clock_hz,
            burst_bytes=d.burst_bytes,
        )

    def _compute(
        self, jobs: JobArrays, grid: FoldGrid, together: IntArray | int, between: IntArray
    ) -> tuple[IntArray, FloatArray | float]:
        """Return compute cycles, and how much longer than its folds alone a layer takes with what it waits `between` steps."""
        d, timed = self.designs, jobs.timed(self.designs)
        design = (d.dataflow, d.rows, d.cols)
        if self.spec.compat == "scalesim":
            compute = timing.scalesim_cycles(*design, *timed, jobs.groups)
            return compute, compute / timing.fold_cycles(*design, *timed, jobs.groups, grid=grid)
        overlaps = (d.overlap_load, d.overlap_drain)
        turns = jobs.steps.turns
        compute = timing.fold_cycles(*design, *timed, jobs.groups // turns, *overlaps, together=together, grid=grid)
        if not jobs.steps.present and not jobs.saves:
            return compute, 1.0
        compute = turns * compute + pattern_counts.longer_loads(jobs, grid, d)
        compute = np.where(jobs.given_cycles > 0, jobs.given_cycles, compute)
        folds = timing.fold_cycles(*design, *timed, jobs.groups, *overlaps, together=together, grid=grid)
        return compute, (compute + between) / folds

    def _moved(
        self, jobs: JobArrays, grid: FoldGrid, folded_grid: FoldGrid, together: IntArray | int
    ) -> traffic.DramTraffic:
        """Return DRAM traffic; spilled sums follow the folds that really run, written results the outputs that there are."""
        d, sum_bits = self.designs, self.spec.accumulator_bits
        ifmap_bytes, filter_bytes, ofmap_bytes = d.sram_bytes

        def of(k: IntArray, grid: FoldGrid) -> traffic.DramTraffic:
            return traffic.dram_traffic(
                d.dataflow,
                d.rows,
                d.cols,
                jobs.m,
                jobs.n,
                k,
                jobs.groups,
                ifmap_elements=jobs.ifmap_elements,
                ifmap_bits=jobs.activation_bits,
                filter_bits=jobs.weight_bits,
                ofmap_bits=jobs.result_bits,
                accumulator_bits=sum_bits,
                ifmap_sram_bytes=ifmap_bytes,
                filter_sram_bytes=filter_bytes,
                ofmap_sram_bytes=ofmap_bytes,
                shared_sram_bytes=d.shared_sram_bytes,
                together=together,
                grid=grid,
            )

        moved = of(jobs.k, grid)
        folded = moved if folded_grid is grid else of(jobs.folded_k, folded_grid)
        spilled = (folded.psum_reads * sum_bits + 7) // 8
        not_spilled = spilled if folded is moved else (moved.psum_reads * sum_bits + 7) // 8
        return replace(
            moved,
            psum_reads=folded.psum_reads,
            psum_writes=folded.psum_writes,
            ofmap_writes=jobs.outputs,
            read_bytes=moved.read_bytes + (spilled - not_spilled),
            write_bytes=(jobs.outputs * jobs.result_bits + 7) // 8 + spilled,
        )

    def together(self, jobs: JobArrays, grid: FoldGrid) -> IntArray | int:
        """Return how many groups share a fold; steps that depend on each other never do, nor do groups in SCALE-Sim."""
        if not jobs.may_share or self.spec.groups != "side_by_side" or self.spec.compat == "scalesim":
            return 1
        return timing.packed_groups(grid, self.designs.rows, self.designs.cols, jobs.sharing_groups)

    def _with_exponents(
        self, exponents: tuple[FloatArray, FloatArray, FloatArray], moved: traffic.DramTraffic
    ) -> traffic.DramTraffic:
        """Return the traffic with the exponents of block floats, which travel with their mantissas."""
        w, a, y = exponents
        read = np.ceil((moved.ifmap_reads * a + moved.filter_reads * w) / 8).astype(np.int64)
        written = np.ceil(moved.ofmap_writes * y / 8).astype(np.int64)
        return replace(moved, read_bytes=moved.read_bytes + read, write_bytes=moved.write_bytes + written)

    def _resident(self, jobs: JobArrays, moved: traffic.DramTraffic) -> traffic.DramTraffic:
        """Return the traffic without what stays on chip."""
        assert jobs.kept is not None
        return array_traffic(
            moved,
            ifmap_kept=jobs.kept[0],
            filter_kept=jobs.kept[1],
            result_kept=jobs.kept[2],
            ifmap_bits=jobs.activation_bits,
            filter_bits=jobs.weight_bits,
            ofmap_bits=jobs.result_bits,
        )

    def _shares(self, jobs: JobArrays, counts: Counts) -> Shares:
        d = self.designs
        timed = jobs.timed(d)
        grid = timing.fold_grid(d.dataflow, d.rows, d.cols, *timed)
        waits = counts.stalls + counts.dependence
        use = timing.utilization(
            d.dataflow,
            d.rows,
            d.cols,
            *timed,
            jobs.groups,
            compute_cycles=counts.compute,
            stall_cycles=waits,
            together=self.together(jobs, grid),
            grid=grid,
        )
        lost_dependence = use.lost_bandwidth * counts.dependence / np.maximum(1, waits)
        return Shares(
            mapping_efficiency=use.mapping_efficiency,
            compute_utilization=use.compute_utilization,
            utilization=use.utilization,
            lost_padding=use.lost_padding,
            lost_groups=use.lost_groups,
            lost_fill_drain=use.lost_fill_drain,
            lost_bandwidth=use.lost_bandwidth - lost_dependence,
            lost_dependence=lost_dependence,
        )
