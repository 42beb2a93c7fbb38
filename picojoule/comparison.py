"""Compares saved runs under the uncertainty of the technology constants, sampled jointly."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from picojoule.figures_axes import shown_as
from picojoule.fronts import probability_non_dominated, sample_energies
from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded
from picojoule.sim.technology import all_constants, deciding_constant, probability_less

if TYPE_CHECKING:
    from rich.table import Table

_LIMIT_BYTES = 32 << 20
INCOMPLETE = " (INCOMPLETE)"
"""Follows the name of a run of which not every operator is priced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A row per pair of runs, as `compare_runs` gives them; `note` says what to know before reading them."""

    rows: list[dict[str, Any]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run's name, network, energies per sample by constant, and its accuracy if it holds one."""

    name: str
    network: str
    complete: bool
    bill: dict[str, float]
    accuracy: float | None


def compare_runs(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a row per pair of runs: energies per sample, P(first costs less), and the constant that decides.

    If all runs hold an accuracy, also each one's P(no other run given is better in energy and accuracy).

    Raises:
        InputError: for fewer than two runs, a study, or a folder that `evaluate --out` did not write.

    """
    return compare(runs).rows


def compare(runs: Sequence[Path]) -> Compared:
    """Return what `compare_runs` does, and a note where the runs are of different networks."""
    for run in runs:
        if (run / "study.yaml").is_file():
            raise InputError(f"{run}: is a study, not a run; {_runs_in(run)}")
    if len(runs) < 2:
        raise InputError("compare needs at least two runs made with `evaluate --out`")
    read = [
        replace(found, name=marked(name, complete=found.complete))
        for found, name in zip(map(_read, runs), short_names(runs), strict=True)
    ]
    kept = _non_dominated([run.bill for run in read], [run.accuracy for run in read])
    rows: list[dict[str, Any]] = []
    for i, a in enumerate(read):
        for j, b in enumerate(read[i + 1 :], i + 1):
            row = {
                "a": a.name,
                "b": b.name,
                "a_pj_per_sample": sum(a.bill.values()),
                "b_pj_per_sample": sum(b.bill.values()),
                "p_a_less": probability_less(a.bill, b.bill),
                "decided_by": deciding_constant(a.bill, b.bill),
            }
            if kept is not None:
                row |= {"p_a_non_dominated": kept[i], "p_b_non_dominated": kept[j]}
            rows.append(row)
    return Compared(rows=rows, note=_networks(read))


def _runs_in(study: Path) -> str:
    """Say which runs of a study can be compared."""
    runs = sorted(path.parent for path in study.glob("front/*/report.json"))
    if not runs:
        return "it has no runs in front/ yet, search on with `picojoule search --resume`"
    few = " ".join(map(str, runs[:3])) + (f" ({len(runs)} in all)" if len(runs) > 3 else "")
    return f"compare runs of its front: {few}"


def _networks(read: Sequence[_Run]) -> str:
    """Say which network each run prices where they differ."""
    if len({run.network for run in read}) < 2:
        return ""
    told = ", ".join(f"{run.name} {run.network or '(unnamed)'}" for run in read)
    return f"note: the runs are of different networks: {told}"


def marked(name: str, *, complete: bool) -> str:
    """Return a run's name, marked where not every operator is priced."""
    return name if complete else name + INCOMPLETE


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the last part of each path; of those that are equal, as many parts as tell them apart."""
    parts = [path.absolute().parts[1:] or (str(path),) for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        unlike: dict[str, set[tuple[str, ...]]] = {}
        for name, part in zip(names, parts, strict=True):
            unlike.setdefault(name, set()).add(part)
        longer = [
            length + (len(unlike[name]) > 1 and length < len(part))
            for length, name, part in zip(lengths, names, parts, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    """Return the rows of `compare_runs` as a terminal shows them."""
    from picojoule.pareto_tables import Column, narrow_table

    energy = shown_as("energy_pj_per_sample")
    columns = [
        Column(head="a", key="a", text=True),
        Column(head="b", key="b", text=True),
        *(Column(head=f"energy of {k}\n{energy.unit}/sample", key=f"{k}_pj_per_sample", shown=energy) for k in "ab"),
        Column(head="P(a costs\nless)", key="p_a_less"),
        *(
            Column(head=f"P({k} on\nthe front)", key=f"p_{k}_non_dominated")
            for k in "ab"
            if any(f"p_{k}_non_dominated" in row for row in rows)
        ),
        Column(head="decided by", key="decided_by", text=True),
    ]
    return narrow_table(rows, columns)


def _non_dominated(bills: Sequence[dict[str, float]], accuracies: Sequence[float | None]) -> list[float] | None:
    """Return for each run P(no other is better in energy and accuracy), None if one holds no accuracy."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if len(known) < len(bills):
        return None
    shares: list[float] = probability_non_dominated(-np.array([known]).T, sample_energies(bills)).tolist()
    return shares


def _read(run: Path) -> _Run:
    table = run / "components.csv"
    try:
        text = read_bounded(table, _LIMIT_BYTES, "the components.csv of `evaluate --out`").decode()
        document = json.loads(read_bounded(run / "report.json", _LIMIT_BYTES, "the report.json of `evaluate --out`"))
        batch = int(document["network"]["batch"])
        complete, network = bool(document["complete"]), str(document["network"].get("name", ""))
        accuracy = None if document["accuracy"] is None else float(document["accuracy"]["hardware"])
        bill: dict[str, float] = {}
        for row in csv.DictReader(io.StringIO(text, newline="")):
            if row["metric"] == "energy":
                bill[row["source"]] = bill.get(row["source"], 0.0) + float(row["value"]) / batch
        if batch < 1 or not bill or None in bill or not all(math.isfinite(v) and v >= 0 for v in bill.values()):
            raise ValueError(run)
        if accuracy is not None and not math.isfinite(accuracy):
            raise ValueError(run)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, csv.Error):
        raise InputError(f"{run}: not a run of picojoule (torn or edited?); run `evaluate --out` again") from None
    known = all_constants()
    for key in bill:
        for name in key.split("*"):
            if name not in known:
                raise InputError(
                    f"{table}: priced by constant '{name}', which this version does not have; run it again"
                )
    return _Run(name=run.name, network=network, complete=complete, bill=bill, accuracy=accuracy)
