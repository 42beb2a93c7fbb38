"""Recurrent layers on crossbars: what moves between the crossbars and a tile's eDRAM from step to step.

The recurrent weight is written once and read in every step; a step waits for the one before. Its digital unit adds the gates to
what the crossbars return and makes the next h (and c), which goes to the eDRAM and from there to the wordlines:

    latency = steps x (reads of one step + way through the unit + element-wise work of one step)

where a GRU that resets h before its last gate reads, and waits, twice. Copies of the weight share the samples of a batch, no
more. c is kept at the width of the output registers. Left out: waiting for the eDRAM.
"""

from dataclasses import dataclass

from picojoule.reram.technology import OUTPUT_BITS
from picojoule.sim.attributes import RecurrentAttributes
from picojoule.sim.ir import Layer
from picojoule.sim.passes import result_bytes
from picojoule.sim.recurrence import holds_cell_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Elements of gates and initial states, of c (read and written alike) and of results; and bits over the buffer in all."""

    gates: int
    cell: int
    results: int
    read_bits: float
    write_bits: float


def carried(layer: Layer, batch: int, state_bits: float) -> Carried:
    """Return what a recurrent layer (formats filled in) moves for `batch` samples; `state_bits` are those of h, all steps."""
    a = layer.attributes
    assert isinstance(a, RecurrentAttributes)
    outside = (layer.operands[0], *layer.operands[2 + a.has_bias :])
    cell = layer.results[0].type.elements(batch) if holds_cell_state(a) else 0
    return Carried(
        gates=sum(o.type.elements(batch) for o in outside),
        cell=cell,
        results=sum(r.type.elements(batch) for r in layer.results),
        read_bits=state_bits + 8 * sum(result_bytes(o, batch) for o in outside) + OUTPUT_BITS * cell,
        write_bits=8 * sum(result_bytes(r, batch) for r in layer.results) + OUTPUT_BITS * cell,
    )
