"""What an array makes of zero weights: what it leaves out, what it stores, how long it takes, and why nothing gets faster.

In this order, for each layer whose weights are declared sparse (`find_compression` declares what it finds in a file):

1. Removal (a compiler does it): groups, output channels and reduction positions of which all weights are zero. Results of a
   removed channel are its bias; they are still written. Weights declared dense are searched for zeros only where an option asks
   for their places: `zero_skipping` removes as above, `zero_gating` removes nothing.
2. N:M, where PEs take a pattern (`structured_sparsity`) that the weights obey and that leaves fewer positions than removal did:
   the reduction has N positions for every M. Each of the N PEs (ws, is) or cycles (os) gets the M ifmap words of the group and
   selects one by the weight's position, ceil(log2 M) bits (ws: US patent 11,803,736). In `is` the N PEs hold the M words, which
   are loaded through the rows like any others: a fold's load is M/N as long. In ws and os row wires are M/N words wide; their
   wires and registers are priced as one word wide. The ifmap is read as if nothing were left out (`ifmap_k`).
   Weights are stored compressed where that is smaller; PEs that cannot take it get them expanded, and nothing is faster.
3. Zero skipping (`zero_skipping: weights`): see `zero_skipping`; a bit mask is stored with the weights that are kept.
4. Zero gating (`zero_gating`): a PE whose operand is zero does not multiply and add; it takes its cycle (Chen et al., Eyeriss,
   JSSC 2017, section V). Registers are clocked as before.

`compat: scalesim` knows of no zeros: only gating, which changes no cycle, is priced with it.

Left out: energy and area of multiplexers, index decoders and zero detectors; PEs that also pass over zero activations.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.array_work import SparseWork
from picojoule.accel.systolic.recurrence import turn_sizes
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.zero_pattern import ZeroPattern, zero_pattern
from picojoule.accel.systolic.zero_skipping import SkippingCycles, skipping_cycles
from picojoule.sim.attributes import Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.formats import NumberFormat, Structure
from picojoule.sim.gemm import Gemm
from picojoule.sim.ir import Layer, OperandKind

_REMOVED_FROM = 0.01
"""Share of weights from which a report says that they are left out."""
_MENTIONED_FROM = 0.05
"""Share of zeros from which a report says that they save nothing."""
_RESTS_FROM = 0.005
"""Share of MACs that rest from which they are counted and named, in whole percents."""
_MAIN_CAUSE = 0.5
"""Share of the largest cause from which another one is named beside it."""
_SMALL_GAIN = 0.7
"""Share of the gain that zeros promise below which a report says why it is missed."""


def is_concerned(layer: Layer, spec: SystolicSpec) -> bool:
    """Whether zeros of a layer's weight may matter to a design: cheap, without reading weights."""
    if len(layer.operands) < 2 or layer.operands[1].kind is not OperandKind.PARAMETER:
        return False
    if spec.compat == "scalesim":
        return spec.zero_gating
    return (
        layer.operands[1].sparsity.structure is not Structure.DENSE or spec.zero_gating or spec.zero_skipping != "none"
    )


def sparse_work(
    layer: Layer,
    gemm: Gemm,
    weight_format: NumberFormat,
    spec: SystolicSpec,
    rows: int,
    cols: int,
    dataflow: str | Dataflow,
    batch: int = 1,
    *,
    pattern: ZeroPattern | None = None,
    inputs: NDArray[Any] | None = None,
    random_weights: bool = False,
) -> SparseWork | None:
    """Return a layer as the array runs it, None where no weight can be left out or every one of them is dense.

    `gemm` is `gemm_view(layer, batch)`. `pattern` saves reading the weights again (`zero_pattern`); `inputs` [groups, k, samples]
    are integers the layer meets, for gating by zero activations. `random_weights`: see `zero_pattern`.

    Raises:
        InputError: if the weights break the N:M pattern they are declared to have.
        UnsupportedError: for zero skipping on decomposable or bit-plane PEs, or inputs of another shape.

    """
    if not is_concerned(layer, spec):
        return None
    flow = dataflow if isinstance(dataflow, Dataflow) else Dataflow.of(dataflow)
    pattern = pattern or zero_pattern(layer, weight_format, random_weights=random_weights)
    if pattern is None:
        return None
    removes = _leaves_out(layer, spec)
    alive = (
        pattern.without_dead(outputs=layer.op is not Op.RECURRENT) if removes else pattern
    )  # a step's gates stay whole
    groups, n, k = alive.live.shape
    work = SparseWork(
        gemm=replace(gemm, n=n, k=k, groups=groups),
        ifmap_k=k,
        ifmap_share=pattern.input_share if removes and pattern.kept else 1.0,
        stored_weights=groups * n * k,
        stored_weight_bits=_bits(groups * n * k, weight_format),
        lost=_uneven_groups(pattern, alive, gemm) if removes else {},
        basis=pattern.basis,
        notes=_removal_notes(pattern, alive),
    )
    work, on_array = _compressed(work, layer, pattern, weight_format, spec) if removes else (work, False)
    if spec.zero_skipping == "weights" and not on_array:
        work = _skipped(work, layer, alive, weight_format, spec, rows, cols, flow)
    elif spec.zero_gating:
        work = _gated(work, layer, pattern, inputs)
    else:
        work = _nothing_saved(work, pattern, spec, on_array)
    if pattern.basis == "data" or pattern.density == 1:
        return work
    note = f"a pattern of density {pattern.density:.2f} was drawn at random: it is declared, and no weights have it"
    return replace(work, notes=(*work.notes, note))


def _leaves_out(layer: Layer, spec: SystolicSpec) -> bool:
    """Whether zero weights of a layer may be left out at all; otherwise PEs only rest on them."""
    declared = layer.operands[1].sparsity.structure is not Structure.DENSE
    return spec.compat != "scalesim" and (declared or spec.zero_skipping != "none")


def _bits(words: int, form: NumberFormat) -> int:
    return int(np.ceil(words * form.stored_bits))


def _uneven_groups(pattern: ZeroPattern, alive: ZeroPattern, gemm: Gemm) -> dict[str, int]:
    """Return the slots lost where groups keep different sizes and the array runs all at the largest."""
    lost = (alive.live.size - max(1, pattern.useful_sizes)) * gemm.m
    return {"imbalance": lost} if lost else {}


def _removal_notes(pattern: ZeroPattern, alive: ZeroPattern) -> tuple[str, ...]:
    if alive.live.size > (1 - _REMOVED_FROM) * pattern.live.size:
        return ()
    (g, n, k), (to_g, to_n, to_k) = pattern.live.shape, alive.live.shape
    groups = f", {to_g} of {g} groups" if g > 1 else ""
    return (
        f"wholly zero weights are left out: {to_n} of {n} output channels, {to_k} of {k} reduction positions{groups} run",
    )


def _compressed(
    work: SparseWork, layer: Layer, pattern: ZeroPattern, form: NumberFormat, spec: SystolicSpec
) -> tuple[SparseWork, bool]:
    """Return the work with N:M weights compressed where they obey a pattern, and whether the PEs take them so."""
    taken, declared = spec.pattern, layer.operands[1].sparsity
    own = (declared.n, declared.m) if declared.n and declared.m else None
    notes = []
    if taken is not None and pattern.density < 1:
        broken, blocks = pattern.broken_groups(*taken)
        kept = pattern.kept_positions(*taken)
        if not broken and kept < work.gemm.k:
            return _shorter(work, kept, taken, form), True
        why = (
            f"{broken / blocks:.1%} of the groups of {taken[1]} input channels keep more than {taken[0]} weights: multiplied as "
            "dense"
            if broken
            else f"without wholly zero positions no group of {taken[1]} keeps more than {taken[0]}: nothing is left to compress"
        )
        if pattern.density < 1 - _MENTIONED_FROM:
            notes.append(f"the PEs take {taken[0]}:{taken[1]} but {why}")
    if own is not None and pattern.broken_groups(*own)[0] == 0:
        stored = _stored(replace(work, gemm=replace(work.gemm, k=pattern.kept_positions(*own))), own[1], form)
        if stored.stored_weight_bits + stored.metadata_bits < work.stored_weight_bits:
            work = replace(stored, gemm=work.gemm)
            if taken is None and spec.zero_skipping == "none":
                notes.append(
                    f"{own[0]}:{own[1]} weights are stored compressed, but these PEs take dense ones: no cycle is saved; "
                    f"structured_sparsity={own[0]}:{own[1]} would run {own[0]} of {own[1]} positions"
                )
    return replace(work, notes=(*work.notes, *notes)), False


def _shorter(work: SparseWork, kept: int, pattern: tuple[int, int], form: NumberFormat) -> SparseWork:
    """Return the work with its reduction cut to the positions that an N:M pattern keeps, and what that costs in storage."""
    made = _stored(replace(work, gemm=replace(work.gemm, k=kept)), pattern[1], form)
    grown = (made.stored_weight_bits + made.metadata_bits) / work.stored_weight_bits
    if grown <= 1:
        return made
    n, m = pattern
    note = f"{n}:{m} weights take {grown:.2f} times the storage of dense ones: positions cost more than words save"
    return replace(made, notes=(*made.notes, note))


def _stored(work: SparseWork, size: int, form: NumberFormat) -> SparseWork:
    """Return the work with the weights of its gemm stored beside their positions in groups of `size`."""
    words = work.gemm.groups * work.gemm.n * work.gemm.k
    return replace(
        work,
        stored_weights=words,
        stored_weight_bits=_bits(words, form),
        metadata_bits=words * (size - 1).bit_length(),
    )


def _skipped(
    work: SparseWork,
    layer: Layer,
    alive: ZeroPattern,
    form: NumberFormat,
    spec: SystolicSpec,
    rows: int,
    cols: int,
    flow: Dataflow,
) -> SparseWork:
    if spec.precision not in ("fixed", "bit_serial"):
        raise UnsupportedError(
            f"layer '{layer.name}': zero skipping picks one weight for each MAC of a PE, which {spec.precision} PEs do not have; "
            "use precision fixed or bit_serial, or zero_skipping none"
        )
    turns = turn_sizes(layer, work.gemm)
    live = alive.live.reshape(-1, turns.n, turns.k) if turns.groups != work.gemm.groups else alive.live
    serial = form.bits if spec.precision == "bit_serial" else 1
    overlap = spec.overlap_drain if flow is Dataflow.OS else spec.overlap_load
    repeats = turns.groups // len(live)

    def cycles(live: NDArray[np.bool_]) -> SkippingCycles:
        side_by_side = spec.groups == "side_by_side" and repeats == 1
        return skipping_cycles(
            live, turns.m, flow, rows, cols, side_by_side=side_by_side, overlap=overlap, serial=serial, repeats=repeats
        )

    made, density, kept = cycles(live), alive.density, alive.kept
    note = () if density > 1 - _MENTIONED_FROM else _skipping_note(made, cycles(np.ones_like(live)).cycles, density)
    bits = _bits(kept, form)
    smaller = bits + alive.live.size < work.stored_weight_bits + work.metadata_bits
    if smaller:
        work = replace(work, stored_weights=kept, stored_weight_bits=bits, metadata_bits=alive.live.size)
    return replace(
        work,
        gated_share=1 - density,
        skipped_share=1 - density,
        compute_cycles=made.cycles,
        folded_k=made.row_length if made.row_length != turns.k else None,
        lost={
            "imbalance": made.imbalance,
            "padding": made.padding,
            "fill_drain": made.fill_drain,
            **({"groups": made.groups} if made.groups else {}),
        },
        notes=(*work.notes, *note),
    )


def _skipping_note(made: SkippingCycles, dense_cycles: int, density: float) -> tuple[str, ...]:
    """Return why passing over zeros gains less than it promises, where it does; the layer's shares lost say how much."""
    if made.cycles == 0 or density == 0:
        return ()
    gain, promised = dense_cycles / made.cycles, 1 / density
    if gain - 1 >= _SMALL_GAIN * (promised - 1):
        return ()
    lost = {
        "imbalance": made.imbalance,
        "fill and drain": made.fill_drain,
        "padding": made.padding,
        "groups": made.groups,
    }
    causes = [cause for cause, slots in lost.items() if slots >= _MAIN_CAUSE * max(lost.values())]
    return (f"zero skipping gains less than the zeros promise: cycles are lost to {' and '.join(causes)}",)


def _gated(work: SparseWork, layer: Layer, pattern: ZeroPattern, inputs: NDArray[Any] | None) -> SparseWork:
    """Return the work with the share of MACs that rest."""
    macs_per_row = work.gemm.n * work.gemm.k * work.gemm.groups
    busy, by = float(pattern.kept), "zero weights"
    if inputs is not None:
        groups, _, k = pattern.live.shape
        if inputs.ndim != 3 or inputs.shape[:2] != (groups, k):
            raise UnsupportedError(
                f"layer '{layer.name}': inputs for zero gating must be [{groups}, {k}, samples], got {list(inputs.shape)}"
            )
        nonzero = (inputs != 0).mean(axis=2)  # [groups, k]
        busy, by = float((pattern.live.sum(1) * nonzero).sum()), "zero weights or activations"
    share = 1 - busy / macs_per_row
    if share < _RESTS_FROM:
        return work
    note = f"zero gating: PEs rest in {share:.0%} of the MACs ({by}); this saves energy, every cycle is still taken"
    return replace(work, gated_share=share, notes=(*work.notes, note))


def _nothing_saved(work: SparseWork, pattern: ZeroPattern, spec: SystolicSpec, on_array: bool) -> SparseWork:
    """Return the work with a note on zeros that are multiplied like any other value."""
    size = work.gemm.groups * work.gemm.n * work.gemm.k
    left = 1 - pattern.kept / size
    if on_array or left < _MENTIONED_FROM or any("stored compressed" in note for note in work.notes):
        return work
    helps = ["zero_gating (energy)", "zero_skipping: weights (cycles, storage)", "removing whole channels"]
    if spec.structured_sparsity is None:
        helps.insert(0, "N:M pruning with structured_sparsity")
    note = (
        f"{left:.0%} of the weights are zeros at no regular places: stored and multiplied like any other value, no cycle, byte "
        f"or energy is saved; what would help: {', '.join(helps[:-1])} or {helps[-1]}"
    )
    return replace(work, notes=(*work.notes, note))
