"""`keep_on_chip`: which values stay in SRAM from the layer that makes them to the last one that reads them.

Half of the ofmap SRAM (or of the shared one) holds what is in use; what partial sums and other sets leave of it may hold
finished values. A kept value is not written to DRAM, and nobody reads it from there: not the array, not the vector unit in
between (pooling, residual additions, concatenation). Views and layers that run in the array's output path pass a value on, so
a value lives until the last reader of any name it goes by.

| value | kept? |
| --- | --- |
| network input, parameter, constant | no: it comes from DRAM |
| read by, or made by, a layer on the host, a recurrent layer, or one that looks single elements up | stays in DRAM for it |
| network output | may be kept for other readers, but is written to DRAM all the same |

All or nothing: a value is kept for its whole life or not at all. While a layer runs, its operands and its result are both
there; the result takes the place of its own partial sums. Of all sets that the memory holds at every moment the one is taken
that saves the most bytes: layer by layer, for each set of values that may be there now, the best way to have come to it. Ties
go to keeping later values. Should so many values live at once that there are more than STATES such sets (dense
concatenations), the less saving ones are dropped, and the choice is good but no longer proved best.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import IntArray
from picojoule.accel.systolic.traffic import DramTraffic
from picojoule.accel.systolic.workload import UNIT_OF_OP, Workload
from picojoule.sim.attributes import Op, QuantizeAttributes, RecurrentAttributes
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.passes import moves_nothing, result_bytes

STATES = 2048
"""Sets of values followed at once."""
_LOOK_UP = (Op.EMBEDDING, Op.GATHER, Op.GRID_SAMPLE, Op.DEFORM_CONV)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What one layer does not move: which operands it need not read from DRAM, whether its result stays, and bytes of the two.

    `read_bytes` are those of one pass over each operand; `array_traffic` takes the array's own passes away.
    """

    operands: tuple[int, ...] = ()
    keeps_result: bool = False
    read_bytes: int = 0
    write_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """The values that stay on chip, what layers save by it (by name; others save nothing), and bytes held while each runs."""

    values: tuple[str, ...]
    layers: Mapping[str, Saved]
    held_bytes: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class _Value:
    """A value in the making: where it is made and read, by layer index, and its bytes."""

    name: str
    size: int
    made: int
    readers: list[tuple[int, int, int]] = field(default_factory=list)  # layer, operand, bytes read
    in_dram: bool = False

    @property
    def last(self) -> int:
        return max(layer for layer, _, _ in self.readers)

    @property
    def saving(self) -> int:
        return sum(read for _, _, read in self.readers) + (0 if self.in_dram else self.size)


def keep_on_chip(workload: Workload, half_bytes: int, working_bytes: Mapping[str, int] | None = None) -> Residency:
    """Return what stays on chip in `half_bytes` of SRAM, of which array layers need `working_bytes` themselves (by name)."""
    layers = workload.network.layers
    working = [(working_bytes or {}).get(layer.name, 0) for layer in layers]
    kept = _best_set(_values(workload), working, half_bytes)
    held = [sum(v.size for v in kept if v.made <= i <= v.last) for i in range(len(layers))]
    return Residency(
        values=tuple(v.name for v in kept),
        layers=_saved(kept, [layer.name for layer in layers]),
        held_bytes=tuple(held),
    )


def _best_set(values: list[_Value], working: list[int], half: int) -> list[_Value]:
    """Return the values that save the most and fit beside each layer's `working` bytes, in the order in which they are made."""
    # A state is the set of kept values (by place) alive now, with the bytes saved so far and all that was kept.
    states: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {(): (0, ())}
    for i, own_work in enumerate(working):
        for place, value in enumerate(values):
            if value.made == i:
                more = {
                    (*alive, place): (saved + value.saving, (*kept, place)) for alive, (saved, kept) in states.items()
                }
                states |= more
        after: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
        for alive, reached in states.items():
            own = sum(values[p].size for p in alive if values[p].made == i)
            others = sum(values[p].size for p in alive if values[p].made < i)
            if alive and others + max(own, own_work) > half:
                continue
            left = tuple(p for p in alive if values[p].last > i)
            after[left] = max(after.get(left, (-1, ())), reached)
        states = after
        if len(states) > STATES:
            states = dict(sorted(states.items(), key=lambda item: (-item[1][0], item[0]))[:STATES])
    return [values[p] for p in max(states.values(), default=(0, ()))[1]]


def _saved(kept: list[_Value], names: list[str]) -> dict[str, Saved]:
    found: dict[str, Saved] = {}
    for value in kept:
        made = found.get(names[value.made], Saved())
        if not value.in_dram:
            made = replace(made, keeps_result=True, write_bytes=made.write_bytes + value.size)
        found[names[value.made]] = made
        for layer, operand, read in value.readers:
            before = found.get(names[layer], Saved())
            found[names[layer]] = replace(
                before, operands=tuple(sorted((*before.operands, operand))), read_bytes=before.read_bytes + read
            )
    return found


def _values(workload: Workload) -> list[_Value]:
    """Return the values that have readers and may be kept."""
    network, batch = workload.network, workload.batch
    jobs = {job.layer.name: job for job in workload.jobs}
    passing = {other.layer.name for other in workload.others if other.fused}
    values: dict[str, _Value] = {}  # by every name that a value goes by
    made: list[_Value] = []
    for i, layer in enumerate(network.layers):
        if layer.name in passing or moves_nothing(layer):
            first = layer.operands[0].name if layer.operands else ""
            if first in values:
                values.update((r.name, values[first]) for r in layer.results)
            continue
        for place, operand in enumerate(layer.operands):
            value = values.get(operand.name)
            if value is None or operand.kind is not OperandKind.ACTIVATION:
                continue
            if _needs_dram(layer):
                value.in_dram = True
            else:
                passes = 2 if isinstance(layer.attributes, QuantizeAttributes) else 1
                value.readers.append(
                    (i, place, value.size if layer.name in jobs else passes * result_bytes(operand, batch))
                )
        if not _needs_dram(layer):
            job = jobs.get(layer.name)
            for r in layer.results:
                size = ceil(job.outputs * job.word_bits[2] / 8) if job else result_bytes(r, batch)
                values[r.name] = _Value(name=r.name, size=size, made=i)
                made.append(values[r.name])
    for output in network.outputs:
        if output in values:
            values[output].in_dram = True
    return [value for value in made if value.readers]


def _needs_dram(layer: Layer) -> bool:
    """Return whether a layer takes its operands from DRAM and leaves its results there."""
    return (
        UNIT_OF_OP[layer.op.value] in ("host", "unsupported")
        or isinstance(layer.attributes, RecurrentAttributes)
        or layer.op in _LOOK_UP
    )


def array_traffic(
    moved: DramTraffic,
    *,
    ifmap_kept: npt.ArrayLike,
    filter_kept: npt.ArrayLike,
    result_kept: npt.ArrayLike,
    ifmap_bits: npt.ArrayLike,
    filter_bits: npt.ArrayLike,
    ofmap_bits: npt.ArrayLike,
) -> DramTraffic:
    """Return the DRAM traffic of array layers whose operand 0, operand 1 or result is on chip; flags broadcast with it."""
    a, w, y = (np.asarray(flag, dtype=bool) for flag in (ifmap_kept, filter_kept, result_kept))
    ifmap, filters, ofmap = (
        np.where(a, 0, moved.ifmap_reads),
        np.where(w, 0, moved.filter_reads),
        np.where(y, 0, moved.ofmap_writes),
    )
    saved = _bytes(moved.ifmap_reads - ifmap, ifmap_bits) + _bytes(moved.filter_reads - filters, filter_bits)
    return replace(
        moved,
        ifmap_reads=ifmap,
        filter_reads=filters,
        ofmap_writes=ofmap,
        read_bytes=moved.read_bytes - saved,
        write_bytes=moved.write_bytes - _bytes(moved.ofmap_writes - ofmap, ofmap_bits),
    )


def _bytes(words: IntArray, bits: npt.ArrayLike) -> IntArray:
    made: IntArray = -(-(words * np.asarray(bits, dtype=np.int64)) // 8)
    return made
