"""Compares saved runs under the uncertainty of the technology constants, sampled jointly."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picojoule.fronts import probability_non_dominated, sample_energies
from picojoule.sim.errors import InputError
from picojoule.sim.files import read_bounded
from picojoule.sim.technology import all_constants, deciding_constant, probability_less

_LIMIT_BYTES = 32 << 20


def compare_runs(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a row per pair of runs: energies per sample, P(first costs less), and the constant that decides.

    If all runs hold an accuracy, also each one's P(no other run given is better in energy and accuracy).

    Raises:
        InputError: for fewer than two runs, or one that `evaluate --out` did not write.

    """
    if len(runs) < 2:
        raise InputError("compare needs at least two runs made with `evaluate --out`")
    read = [_read(run) for run in runs]
    kept = _non_dominated([bill for _, bill, _ in read], [accuracy for _, _, accuracy in read])
    rows: list[dict[str, Any]] = []
    for i, (name_a, a, _) in enumerate(read):
        for j, (name_b, b, _) in enumerate(read[i + 1 :], i + 1):
            row = {
                "a": name_a,
                "b": name_b,
                "a_pj_per_sample": sum(a.values()),
                "b_pj_per_sample": sum(b.values()),
                "p_a_less": probability_less(a, b),
                "decided_by": deciding_constant(a, b),
            }
            if kept is not None:
                row |= {"p_a_non_dominated": kept[i], "p_b_non_dominated": kept[j]}
            rows.append(row)
    return rows


def _non_dominated(bills: Sequence[dict[str, float]], accuracies: Sequence[float | None]) -> list[float] | None:
    """Return for each run P(no other is better in energy and accuracy), None if one holds no accuracy."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    if len(known) < len(bills):
        return None
    shares: list[float] = probability_non_dominated(-np.array([known]).T, sample_energies(bills)).tolist()
    return shares


def _read(run: Path) -> tuple[str, dict[str, float], float | None]:
    """Return a run's name, its energies per sample by constant, and its accuracy if it holds one."""
    table = run / "components.csv"
    try:
        text = read_bounded(table, _LIMIT_BYTES, "the components.csv of `evaluate --out`").decode()
        document = json.loads(read_bounded(run / "report.json", _LIMIT_BYTES, "the report.json of `evaluate --out`"))
        batch = int(document["network"]["batch"])
        shown = run.name if document["complete"] else f"{run.name} (INCOMPLETE)"
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
    except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError, csv.Error):
        raise InputError(f"{run}: not a run of picojoule (torn or edited?); run `evaluate --out` again") from None
    known = all_constants()
    for key in bill:
        for name in key.split("*"):
            if name not in known:
                raise InputError(
                    f"{table}: priced by constant '{name}', which this version does not have; run it again"
                )
    return shown, bill, accuracy
