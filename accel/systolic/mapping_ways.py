"""`mapping: search` where values may stay on chip: a layer that keeps some is not searched, so that the two do not add up.

Hence the network is priced both ways: every value through DRAM and every layer searched; and values kept, the other layers
searched. The better by the objective, for the whole network, is taken, and a note says which layers were not searched.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from picojoule.accel.systolic.load import Load
from picojoule.accel.systolic.mapping_search import why_default
from picojoule.accel.systolic.totals import Totals, searched_totals


def best_of(ways: Sequence[tuple[Load, Totals]], objective: str) -> tuple[Load, Totals]:
    """Return the best by an objective of ways to hold the values of one network, each searched; of equal ones the last.

    The first way keeps no value on chip, and there is one more at most, which keeps some. Notes are added to the load.
    """
    found = [(load, searched_totals(load, totals)) for load, totals in ways]
    place = min(reversed(range(len(found))), key=lambda i: _worth(found[i][1], objective))
    load, totals = found[place]
    notes = [*load.notes, *default_notes(load, totals)]
    if place < len(found) - 1:
        notes.append(
            f"mapping search: no value is kept on chip: with all through DRAM and every layer searched the {objective} is lower"
        )
    return replace(load, notes=tuple(notes)), totals


def _worth(totals: Totals, objective: str) -> float:
    """Return what the objective makes small, for the whole network."""
    seconds, energy = float(totals.latency_s.item()), float((totals.dynamic_pj + totals.static_pj).item())
    return {"latency": seconds, "energy": energy, "edp": seconds * energy}[objective]


def default_notes(load: Load, totals: Totals) -> list[str]:
    """Return a note on how many layers were not searched and why; none where all were."""
    assert load.kinds is not None
    reasons: Counter[str] = Counter()
    for job, times in zip(load.kinds.whole.jobs, load.kinds.times.tolist(), strict=True):
        if reason := why_default(job, totals.designs):
            reasons[reason] += times
    if not reasons:
        return []
    listed = ", ".join(f"{count} ({reason})" for reason, count in reasons.items())
    return [f"mapping search: {reasons.total()} layer(s) keep the default mapping: {listed}"]
