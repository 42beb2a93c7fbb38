"""The Hamming study: its points, the rule that chooses, resuming, counts and ratios by hand, and its document."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picojoule import hamming_energy, hamming_measure, hamming_points, hamming_study, hamming_tables
from picojoule.accel.systolic.accelerator import SystolicArray
from picojoule.compress.hamming_config import HammingConfig
from picojoule.hamming_document import MARKS, markdown, with_tables
from picojoule.hamming_figure import plot_study
from picojoule.hamming_measure import (
    channel_orders,
    layer_flips,
    measure_points,
    measured_of,
    planned_network,
    variants,
)
from picojoule.hamming_points import ARMS, MAIN, TRIALS, TUNING_SEED, Point
from picojoule.hamming_study import StudySettings, config_of
from picojoule.sim import passes, technology
from picojoule.sim.errors import InputError
from picojoule.sim.passes import fold_batch_norm

TINY = StudySettings(data="fashion-mini", network="dscnn-fashion", limit=96, base_epochs=1, epochs=1, batch_size=32)
FINALS = [hamming_points.final_point(arm, 0, 0) for arm in ("dense", "ordered")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hamming")
    hamming_study.run_points(out, TINY, FINALS, lambda text: None)
    return out


def test_every_arm_trains_as_long_with_the_same_settings_from_the_same_base():
    finals = hamming_points.final_points(3, 1)
    assert len(finals) == 3 * len(ARMS) == len({p.name for p in finals})
    assert {p.base for p in finals} == {hamming_points.base_point(s) for s in range(3)}
    assert [p.arm for p in finals[: len(MAIN)]] == list(MAIN)
    shared = ("epochs", "lr", "weight_decay", "batch_size", "rows", "cols")
    assert len({tuple(config_of(TINY, p)[k] for k in shared) for p in finals}) == 1
    for point in finals:
        config = HammingConfig(**config_of(TINY, point))
        assert config.seed == point.seed
        assert (config.search == "trellis") == ARMS[point.arm].searched
    chosen = {(config_of(TINY, p)["weighting"], config_of(TINY, p)["strength"]) for p in finals if ARMS[p.arm].searched}
    assert chosen == {(TRIALS[1]["weighting"], TRIALS[1]["strength"])}


def test_trials_have_a_seed_of_their_own():
    trials = hamming_points.trial_points()
    assert {p.seed for p in trials} == {TUNING_SEED} and TUNING_SEED not in range(10)
    assert len({p.name for p in trials}) == 1 + len(TRIALS)


def test_the_fewest_flips_among_trials_accurate_enough_are_chosen():
    def results(*values: tuple[float, int]) -> dict[Point, dict[str, Any]]:
        found = [{"val_accuracy": a, "flips": f} for a, f in ((0.9, 1000), *values)]
        return dict(zip(hamming_points.trial_points(), found, strict=True))

    assert hamming_points.choose(results((0.899, 300), (0.895, 200), (0.894, 100), (0.9, 400))) == (1, True)
    assert hamming_points.choose(results((0.80, 300), (0.82, 200), (0.81, 100), (0.1, 1))) == (1, False)


def test_a_finished_point_is_not_trained_again_and_other_settings_are_refused(trained: Path):
    said: list[str] = []
    hamming_study.run_points(trained, TINY, FINALS, said.append)
    assert said == []
    other = TINY.model_copy(update={"epochs": 2})
    with pytest.raises(
        InputError, match=r"dense-s0\.json: was made with other settings; delete it, and it is made again, or"
    ):
        hamming_study.results_of(trained, other, FINALS)
    with pytest.raises(
        InputError, match=r"trial trial-dense-s100 was not trained yet; run the study without --tables-only"
    ):
        hamming_study.chosen_finals(trained, TINY, 1)


def test_flips_of_a_point_by_hand(trained: Path):
    """A pointwise layer on the 16-row array: successive channels of every row of k, for every column fold."""
    results = hamming_study.results_of(trained, TINY, FINALS)
    data = hamming_study.data_of(TINY)
    plain = planned_network(trained, TINY, FINALS[0], results[FINALS[0]], data)
    network = fold_batch_norm(plain)
    orders = channel_orders(plain, "twos_complement")
    assert {len(np.unique(t)) == len(t) for taken in orders.values() for t in taken} == {True}
    rows = layer_flips(network, dict.fromkeys(("twos_complement", "sign_magnitude"), orders))
    last = rows[-1]
    assert (last["name"], last["m"], last["n"], last["k"], last["groups"]) == ("classifier", 1, 10, 128, 1)
    from picojoule.sim.integer_weights import integer_weights

    layer = next(y for y in network.layers if y.name == "classifier")
    form = layer.operands[1].format
    assert form is not None
    words = (integer_weights(layer, form)[0] & 255).astype(np.uint8)
    port = np.concatenate([words[:, i : i + 16] for i in range(0, 128, 16)])  # 8 row folds one after the other
    expected = int(np.bitwise_count(port[0]).sum()) + int(np.bitwise_count(port[1:] ^ port[:-1]).sum(dtype=np.int64))
    assert last["flips"]["is-16-twos_complement-as_is"] == expected
    assert last["flips"]["is-16-twos_complement-segments"] < expected
    assert set(last["flips"]) == set(variants())


def test_ratios_by_hand():
    def counted(*layers: tuple[float, float]) -> dict[str, Any]:
        names = ("is-16-twos_complement-as_is", "is-16-twos_complement-segments")
        return {"layers": [{"flips": dict(zip(names, flips, strict=True))} for flips in layers]}

    dense, mine = counted((100, 80), (60, 60)), counted((50, 40), (6, 4))
    assert hamming_tables.layer_ratios(dense, mine, "is-16-twos_complement-segments") == [2.5, 15.0]
    assert hamming_tables.total_ratio(dense, mine, "is-16-twos_complement-segments") == 160 / 44
    assert hamming_tables.layer_ratios(dense, counted((1, 0), (1, 1)), "is-16-twos_complement-segments") == [
        100.0,
        60.0,
    ]
    assert hamming_tables.trained_variant("ordered_sign") == "is-16-sign_magnitude-segments"
    assert hamming_tables.trained_variant("os") == "os-16-twos_complement-as_is"


def test_tables_and_figure_of_a_tiny_run(trained: Path):
    results = hamming_study.results_of(trained, TINY, FINALS)
    measure_points(trained, TINY, results, lambda text: None)
    measured = measured_of(trained, results)
    assert json.loads((trained / "points" / "dense-s0.measured.json").read_text())["test"]["samples"] == 96
    rows = hamming_tables.rows_of(measured, results)
    assert len(rows) == 2 * len(variants())
    for row in rows:
        seconds = {r["times"]["cpu_s"] for p, r in results.items() if p.arm == row["arm"]}
        assert {row["training_cpu_s"]} == seconds
    of = {(r["arm"], r["variant"]): r for r in rows}
    assert (
        of["dense", "is-16-twos_complement-as_is"]["total"] == of["dense", "is-16-twos_complement-as_is"]["mean"] == 1
    )
    assert (
        of["ordered", "is-16-twos_complement-segments"]["total"]
        > of["dense", "is-16-twos_complement-segments"]["total"]
        > 1
    )
    trained_row, dense_row = (of[a, "is-16-twos_complement-segments"] for a in ("ordered", "dense"))
    assert trained_row["trained_for"]
    assert trained_row["same_order"] == pytest.approx(trained_row["total"] / dense_row["total"])
    assert dense_row["same_order"] == 1
    layers = hamming_tables.layer_rows(measured, "ordered")
    assert [r["groups"] for r in layers] == [1, 16, 1, 48, 1, 96, 1, 1]
    text = markdown(rows, layers, [])
    assert "| trained, segments ordered (1 seeds) | is-16-twos_complement-segments |" in text and "nan" not in text
    assert "not tuned" not in text  # there is no such arm here
    as_li = [{**r, "arm": "bits", "title": ARMS["bits"].title} for r in rows if r["arm"] == "ordered"]
    assert "(Li et al.; untuned): its strength is 10 and was not tuned" in markdown([*rows, *as_li], layers, [])
    figure = plot_study(measured, rows, layers)
    assert len(figure.axes) == 2


def test_the_script_ends_with_the_code_of_the_error(tmp_path: Path):
    script = Path(__file__).parent.parent / "scripts" / "reproduce_hamming.py"
    command = [sys.executable, str(script), "--quick", "--tables-only", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (InputError.exit_code, "")
    assert done.stderr.endswith("run the study without --tables-only\n")


def test_stale_measurements_and_prices_are_made_again_and_trained_points_stay(
    trained: Path, monkeypatch: pytest.MonkeyPatch
):
    results = hamming_study.results_of(trained, TINY, FINALS)
    counted: list[str] = []

    def stub(out: Path, settings: StudySettings, point: Point, result: dict[str, Any], data: object) -> dict[str, Any]:
        counted.append(point.name)
        return {"flips": len(counted)}

    monkeypatch.setattr(hamming_measure, "measure", stub)
    monkeypatch.setattr(hamming_energy, "planned_network", stub)
    monkeypatch.setattr(passes, "fold_batch_norm", lambda network: network)
    monkeypatch.setattr(hamming_energy, "energies", dict)

    def made_again() -> tuple[int, int]:
        """Return how many were measured, and how many priced."""
        counted.clear()
        measure_points(trained, TINY, results, lambda text: None)
        measured = len(counted)
        hamming_energy.price_points(trained, TINY, results, lambda text: None)
        assert set(measured_of(trained, results)) == set(hamming_energy.priced_of(trained, results)) == set(FINALS)
        return measured, len(counted) - measured

    before = {
        f: f.read_bytes()
        for f in (trained / "points").iterdir()
        if not f.name.endswith((".measured.json", ".energy.json"))
    }
    old = {"key": hamming_study.key_of(TINY, FINALS[0])}  # as files were written once
    for ending in ("measured.json", "energy.json"):
        hamming_study.point_file(trained, FINALS[0], ending).write_text(json.dumps(old))
    assert FINALS[0] not in measured_of(trained, results)
    assert made_again()[0] >= 1
    assert made_again() == (0, 0)
    monkeypatch.setattr(technology, "constants_hash", lambda: "other")
    assert made_again() == (0, 2)
    monkeypatch.setattr(hamming_measure, "MEASURE_VERSION", 99)
    assert made_again() == (2, 2)
    monkeypatch.setattr(SystolicArray, "model_version", "99")
    assert made_again() == (2, 2)
    results[FINALS[0]] = {**results[FINALS[0]], "val_accuracy": 0.5}  # trained again
    assert made_again() == (1, 1)
    assert before == {f: f.read_bytes() for f in before}
    results[FINALS[0]]["data_digest"] = "another"
    with pytest.raises(InputError, match=r"^fashion-mini: its images are not those that dense-s0 was trained with"):
        measure_points(trained, TINY, results, lambda text: None)


def test_tables_of_a_document_are_replaced():
    document = f"# Title\n{MARKS[0]}\nold\n{MARKS[1]}\nend\n"
    made = with_tables(document, "| new |\n")
    assert made == f"# Title\n{MARKS[0]}\n\n| new |\n\n{MARKS[1]}\nend\n" == with_tables(made, "| new |\n")
    with pytest.raises(InputError, match=r"^the document has no place for tables; write the lines <!-- tables of"):
        with_tables("# Title\n", "")
