"""Tables of `scripts/reproduce_crossbar`: accuracies with intervals beside what the designs cost, as rows and as markdown.

An accuracy's 95 % interval is that of the choice of images (Wilson) or, with several chips, of images and chips
(`accuracy.chips_interval`, at least 95 %). Differences to the lossless design are taken image by image, which is far sharper.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.accuracy import chips_interval
from picojoule.crossbar_designs import ADC_MODELS, LOSSLESS, Design
from picojoule.crossbar_pricing import Price, adc_of, gathered

Row = dict[str, Any]
Answers = Mapping[str, tuple[NDArray[np.bool_], ...]]
Prices = Mapping[str, Mapping[str, Price | None]]
_Z = 1.959964


def accuracy_row(answers: Answers, name: str) -> Row:
    """Return `images chips accuracy low high difference difference_half` of a design; None where nothing was measured."""
    keys = ("images", "chips", "accuracy", "low", "high", "difference", "difference_half")
    row: Row = dict.fromkeys(keys)
    if name not in answers:
        return row
    chips = answers[name]
    images = min(len(c) for c in chips)
    right = [int(c[:images].sum()) for c in chips]
    low, high = chips_interval(right, images)
    row |= {"images": images, "chips": len(chips), "low": low, "high": high}
    row["accuracy"] = sum(right) / (images * len(chips))
    if LOSSLESS in answers and name != LOSSLESS:
        row |= paired(chips, answers[LOSSLESS][0])
    return row


def paired(chips: Sequence[NDArray[np.bool_]], base: NDArray[np.bool_]) -> Row:
    """Return the mean difference to `base` over the images both have, and the half-width of its 95 % interval.

    Images (normal approximation over each image's mean over chips) and chips (Student's t) add in squares.
    """
    images = min(len(base), *(len(c) for c in chips))
    away = np.stack([c[:images] for c in chips]).astype(np.float64) - base[:images]
    half = _Z * float(away.mean(axis=0).std(ddof=1)) / math.sqrt(images)
    if len(chips) > 1:
        from scipy.special import stdtrit

        spread = float(away.mean(axis=1).std(ddof=1))
        half = math.hypot(half, float(stdtrit(len(chips) - 1, 0.975)) * spread / math.sqrt(len(chips)))
    return {"difference": float(away.mean()), "difference_half": half}


def adc_rows(designs: Iterable[Design], answers: Answers, prices: Prices, exact: Mapping[str, bool]) -> list[Row]:
    """Return a row per encoding, range and bits: accuracy, and energy of an image under each ADC model."""
    rows = []
    for d in designs:
        row: Row = {"design": d.name, "encoding": d.changes["encoding"], "range": d.changes["adc_range"]}
        row |= {"bits": d.changes["adc_bits"], "lossless": exact.get(d.name)}
        rows.append(row | accuracy_row(answers, d.name) | _energies(prices.get(d.name, {})))
    return rows


def needed_rows(designs: Iterable[Design], fixed: Mapping[str, Design], answers: Answers, prices: Prices) -> list[Row]:
    """Return a row per data-driven design: its figures over those of `fixed`, the lossless one of its encoding."""
    rows = []
    for d in designs:
        base = fixed[d.changes["encoding"]]
        row: Row = {"design": d.name, "words": d.words, "encoding": d.changes["encoding"], "fixed": base.name}
        row |= {"percentile": d.changes["adc_percentile"], "adc": d.changes["adc"]}
        row |= accuracy_row(answers, d.name)
        for model in ADC_MODELS:
            mine, theirs = prices[d.name][model], prices[base.name][model]
            for key in ("energy_pj", "area_mm2", "latency_s"):
                row[f"{model}_{key}"] = None if mine is None else mine[key]
                row[f"{model}_{key}_saved"] = _times(theirs, mine, key)
            row[f"{model}_adc_pj_saved"] = _ratio(adc_of(theirs, "energy"), adc_of(mine, "energy"))
            row[f"{model}_adc_mm2_saved"] = _ratio(adc_of(theirs, "area"), adc_of(mine, "area"))
        rows.append(row)
    return rows


def device_rows(designs: Iterable[Design], answers: Answers) -> list[Row]:
    """Return a row per device: mean accuracy over chips, its interval, and the paired difference to ISAAC's own."""
    return [{"design": d.name, "words": d.words} | accuracy_row(answers, d.name) for d in designs]


def part_rows(prices: Mapping[str, Price], words: Mapping[str, str]) -> list[Row]:
    """Return a row per design and part: energy of an image in uJ and area in mm2."""
    rows = []
    for name, found in prices.items():
        energy, area = gathered(found["energy"]), gathered(found["area"])
        for part in dict.fromkeys([*energy, *area]):
            rows.append(
                {
                    "design": name,
                    "words": words[name],
                    "part": part,
                    "energy_uj": energy.get(part, 0.0) * 1e-6,
                    "area_mm2": area.get(part, 0.0),
                }
            )
    return rows


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is words, the others are numbers."""
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def percent(row: Row) -> str:
    """Return `91.2 (90.1 to 92.3)`; empty where nothing was measured."""
    if row["accuracy"] is None:
        return ""
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def away(row: Row) -> str:
    """Return the paired difference, `-0.4 ± 0.3` points; empty where there is none."""
    if row["difference"] is None:
        return ""
    return f"{100 * row['difference']:+.1f} ± {100 * row['difference_half']:.1f}"


def times(value: float | None) -> str:
    """Return a ratio, such as `3.2x`; a dash where a model refuses."""
    return "-" if value is None else f"{value:.2g}x" if value < 10 else f"{value:.0f}x"


def _energies(found: Mapping[str, Price | None]) -> Row:
    row: Row = {}
    for model in ADC_MODELS:
        p = found.get(model)
        row[f"{model}_energy_pj"] = None if p is None else p["energy_pj"]
        row[f"{model}_adc_pj"] = adc_of(p, "energy")
        row[f"{model}_latency_s"] = None if p is None else p["latency_s"]
        row[f"{model}_area_mm2"] = None if p is None else p["area_mm2"]
    return row


def _times(theirs: Price | None, mine: Price | None, key: str) -> float | None:
    return None if theirs is None or mine is None else _ratio(theirs[key], mine[key])


def _ratio(theirs: float | None, mine: float | None) -> float | None:
    return None if theirs is None or mine is None or not mine else theirs / mine
