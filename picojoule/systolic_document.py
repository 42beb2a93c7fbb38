"""The generated tables of docs/systolic.md: what `validate` says, SCALE-Sim's USER mode, flips and orders, the first TPU."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from picojoule import scalesim_user, validation_systolic, validation_tpu
from picojoule.accel.systolic.ordering_check import random_weight_table
from picojoule.sim.errors import InputError
from picojoule.sim.technology.table_toggle import TOGGLE_CONSTANTS


def sections() -> Mapping[str, Callable[[], str]]:
    """Return what writes each generated part, by the name in its marker."""
    return {
        "scalesim cycles": scalesim_cycles,
        "scalesim causes": scalesim_causes,
        "scalesim checks": scalesim_checks,
        "validation": validation,
        "toggle law": toggle_law,
        "order": order,
        "tpu": tpu,
    }


def with_sections(text: str) -> str:
    """Return the document with what stands between its markers written anew.

    Raises:
        InputError: if it lacks a marker.

    """
    for name, write in sections().items():
        parts = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL).split(text)
        if len(parts) != 4:
            raise InputError(f"expected one part '{name}' between its markers, found {len(parts) // 3}")
        text = "".join([*parts[:2], write(), "\n", *parts[2:]])
    return text


def scalesim_cycles() -> str:
    """Return cycles, stalls and DRAM reads beside SCALE-Sim's, per dataflow and bandwidth."""
    rows = []
    for name, some in scalesim_user.groups(scalesim_user.comparison()):
        low, median, high = np.percentile(some.ours / some.theirs, (10, 50, 90))
        fair = np.percentile(some.ours_at_3b / some.theirs, (10, 50, 90))
        rows.append(
            (
                name,
                str(len(some.ours)),
                f"{low:.2f}, {median:.2f}, {high:.2f}",
                ", ".join(f"{value:.2f}" for value in fair),
                f"{_thousands(some.our_stalls)}, {_thousands(some.their_stalls)}",
                f"{_thousands(some.our_reads)}, {_thousands(some.their_reads)}",
                f"{_thousands(some.compulsory_reads)}",
            )
        )
    head = ("", "layers", "cycles, ours / theirs: 10 %, median, 90 %", "the same, our bus at 3 b")
    return _table((*head, "stalls, ours, theirs, k", "DRAM words read, ours, theirs, k", "distinct words, k"), rows)


def scalesim_causes() -> str:
    """Return the difference of total cycles by cause."""
    rows = []
    for name, some in scalesim_user.groups(scalesim_user.comparison()):
        total = int(some.theirs.sum() - some.ours.sum())
        rows.append((name, *(f"{value / 1e3:+.1f}" for value in some.causes.sum(axis=1)), f"{total / 1e3:+.1f}"))
    return _table(("theirs - ours, k cycles", *scalesim_user.CAUSES, "together"), rows)


def scalesim_checks() -> str:
    """Return how many layers break the bounds that nothing may break."""
    found = scalesim_user.comparison()
    rows = [
        ("ours at b below MACs / PEs or distinct words / b", int((found.ours < found.bound).sum())),
        ("ours at 3 b below MACs / PEs or distinct words / 3 b", int((found.ours_at_3b < found.bound_at_3b).sum())),
        ("ours reading fewer words than there are", int((found.our_reads < found.compulsory_reads).sum())),
        (
            "SCALE-Sim's total below MACs / PEs or the words of its busiest stream / b",
            int((found.theirs < found.bound_private).sum()),
        ),
        ("the same, from its first fill to its last store", int((found.their_span < found.bound_private).sum())),
        ("windows that hang over the edge (counted by both, no difference)", int(found.hanging.sum())),
    ]
    return _table((f"of {len(found.ours)} layers", "layers"), [(name, str(value)) for name, value in rows])


def validation() -> str:
    """Return the rows of `picojoule validate` for systolic arrays but for the TPU's."""
    made = (*validation_systolic.scalesim(), *validation_systolic.timeloop(), *validation_systolic.twin(),
            *validation_systolic.rtl())  # fmt: skip
    return _table(
        ("what", "source", "quantity", "reference", "ours", "error"),
        [
            (
                r["name"],
                r["source"],
                r["quantity"],
                f"{r['reference']:.9g}",
                f"{r['ours']:.9g}",
                _percent(r["error_pct"]),
            )
            for r in made
        ],
    )


def toggle_law() -> str:
    """Return the constants of the law from flips to energy."""
    rows = [(f"`{c.name}`", f"{c.value:g}", f"{c.low:g} to {c.high:g}") for c in TOGGLE_CONSTANTS]
    return _table(("constant", "value", "range"), rows)


REFERENCE_GAINS = {(1, 0.0): 13.9, (4, 0.0): 2.27, (8, 0.0): 1.69, (16, 0.0): 1.42, (32, 0.0): 1.27, (64, 0.0): 1.18,
                   (512, 0.0): 1.05, (8, 0.8): 2.2, (8, 0.95): 2.7}  # fmt: skip
"""Gains by segment width and share of zeros, computed before ours by another program."""


def order() -> str:
    """Return what orders gain on random weights, beside the reference."""
    rows = [
        (
            str(found.segment),
            f"{100 * found.sparsity:.0f} %",
            f"{found.gain:.3f}",
            f"{REFERENCE_GAINS[found.segment, found.sparsity]:g}",
        )
        for found in random_weight_table()
    ]
    return _table(("rows that share an order", "zeros", "ours", "reference"), rows)


def tpu() -> str:
    """Return the first TPU's applications beside their stand-ins."""
    rows = []
    for application in validation_tpu.APPLICATIONS:
        ours = validation_tpu.tops(application)
        rows.append(
            (
                application.name,
                f"{application.measured_tops:g}",
                f"{application.roofline_tops:g}",
                application.rule,
                f"{validation_tpu.tops(application, validation_tpu.FIRST_RUN):.2f}",
                f"{ours:.2f}",
                application.verdict(ours),
            )
        )
    return _table(("TOPS", "measured", "roofline", "rule for ours", "ours, first run", "ours", ""), rows)


def _percent(error: float) -> str:
    return "0" if abs(error) < 5e-7 else f"{error:+.2g} %"


def _thousands(words: np.typing.NDArray[np.int64]) -> str:
    return f"{words.sum() / 1e3:.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
