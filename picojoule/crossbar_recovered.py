"""The recovery part of `scripts/reproduce_crossbar`: what fine-tuning on the hardware wins back, for LeNet-5.

A smaller network than the rest of the study, since each seed is trained anew and again through each piece of hardware.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.crossbar_designs import BASE, PRESET
from picojoule.crossbar_tables import Row, markdown
from picojoule.sim.files import write_atomic
from picojoule.study_points import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NETWORK, KEPT = "lenet5", "recovery.json"
_SIGNED: Mapping[str, Any] = {"encoding": "differential"}
CASES: Mapping[str, Mapping[str, Any]] = {
    "8-bit ADC, flip": {},
    "3-bit ADC, exact range": {**_SIGNED, "adc_bits": 3},
    "3-bit ADC, calibrated range": {**_SIGNED, "adc_bits": 3, "adc_range": "calibrated"},
    "programming error 0.1": {**_SIGNED, "adc_bits": 9, "device.programming_sigma": 0.1},
    "milo-2021": {**_SIGNED, "adc_bits": 9, "device.preset": "milo-2021"},
}
"""All but the first with differential encoding; the first loses nothing, so it shows what fine-tuning does by itself."""
SIZES: Mapping[str, Any] = {
    "pretrain": 3, "epochs": 2, "lr": 1e-3, "train_samples": 6000, "test_samples": 3000, "chips": 3, "seeds": 5,
}  # fmt: skip
QUICK: Mapping[str, Any] = {
    "pretrain": 1, "epochs": 1, "train_samples": 64, "test_samples": 50, "chips": 1, "seeds": 2,
}  # fmt: skip


def recovered(out: Path, source: str, sizes: Mapping[str, Any], tell: Callable[[str], None]) -> list[Row]:
    """Return a row per case and stage (`crossbar_recovery.summary`); made once and kept in the folder."""
    from picojoule.crossbar_recovery import RecoverySettings, recovery, summary
    from picojoule.models.data import load

    data, settings = load(source), RecoverySettings(**sizes)
    stated = {"settings": asdict(settings), "cases": CASES, "network": NETWORK, "data": data.digest}
    key = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]
    if (out / KEPT).exists() and (found := read_json(out / KEPT)).get("key") == key:
        return list(found["rows"])
    cases = {name: {**BASE, **changes} for name, changes in CASES.items()}
    rows = summary(recovery(NETWORK, data, PRESET, cases, settings, say=tell))
    write_atomic(out / KEPT, json.dumps({"key": key, "stated": stated, "rows": rows}, indent=1, allow_nan=False) + "\n")
    return rows


def recovery_markdown(rows: Sequence[Row]) -> str:
    """Return the table of stages, gains paired by seed."""
    lines = []
    for r in rows:
        gain = f"{100 * r['gain']:+.1f} ({100 * r['gain_low']:+.1f} to {100 * r['gain_high']:+.1f})"
        first = r["stage"] == "before"
        floating = f"{100 * r['float_before']:.1f}" if first else ""
        lines.append(
            [r["case"] if first else "", r["stage"], floating, f"{100 * r['accuracy']:.1f}", "" if first else gain]
        )
    return markdown(("hardware", "stage", "floating point, %", "on the hardware, %", "gained, points (95 %)"), lines)


def plot_recovery(rows: Sequence[Row]) -> "Axes":
    """Draw accuracy on the hardware by stage, a group per case; bars are 95 % over seeds."""
    from picojoule.sim.report_plots import new_axes

    axes = new_axes(8.5, 3.6)
    cases, stages = list(dict.fromkeys(r["case"] for r in rows)), list(dict.fromkeys(r["stage"] for r in rows))
    for number, stage in enumerate(stages):
        mine = [next(r for r in rows if (r["case"], r["stage"]) == (case, stage)) for case in cases]
        at = [i + 0.25 * (number - 1) for i in range(len(cases))]
        middle = [100 * r["accuracy"] for r in mine]
        spread = [
            [100 * (r["accuracy"] - max(0.0, r["accuracy_low"])) for r in mine],
            [100 * (min(1.0, r["accuracy_high"]) - r["accuracy"]) for r in mine],
        ]
        axes.bar(at, middle, 0.23, yerr=spread, capsize=3, label=stage, color=f"C{number}", error_kw={"elinewidth": 1})
    floating = [100 * next(r for r in rows if r["case"] == case)["float_before"] for case in cases]
    axes.hlines(floating, [i - 0.4 for i in range(len(cases))], [i + 0.4 for i in range(len(cases))], color="0.3",
                linestyle=":", label="floating point, before")  # fmt: skip
    axes.set_xticks(range(len(cases)), [c.replace(", ", ",\n", 1) for c in cases], fontsize="small")
    axes.set_ylabel("accuracy on the hardware, %")
    axes.set_ylim(0, 100)
    axes.set_title(f"{NETWORK}: what fine-tuning on the hardware wins back (bars: 95 % over seeds)", fontsize="medium")
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return axes
