"""Studies over networks and hardware together, with the accuracy of trained points."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import picojoule as pj
from picojoule.searching import SearchRequest, run_search
from picojoule.sim.errors import InfeasibleError
from picojoule.studies.points import read_points
from picojoule.studies.results import columns_of, failed_outcome, read_study
from picojoule.studies.spec import read_study_file

NETWORK = """
import torch
from torch import nn

BUILT = []


def make(variant="plain", width=4, bound=3):
    BUILT.append((variant, width, bound))
    if variant == "broken":
        raise ValueError("no such variant")
    kernel = 2 * bound + 1 if variant == "wide" else 3
    layers = nn.Conv2d(1, width, kernel, padding=kernel // 2), nn.ReLU(), nn.Flatten(), nn.Linear(width * 64, 10)
    return nn.Sequential(*layers), torch.zeros(2, 1, 8, 8)
"""
POINTS = """network.variant,network.width,network.bound,accuracy,accuracy_low,accuracy_high,accuracy_test,metric,seeds,notes
plain,4,,0.50,0.48,0.52,0.49,val AP50,5,
plain,8,,0.60,0.58,0.62,0.59,val AP50,5,
wide,4,1,0.62,0.60,0.64,0.61,val AP50,5,
wide,4,2,0.64,0.62,0.66,0.63,val AP50,5,
wide,8,1,0.66,0.64,0.68,0.65,val AP50,5,
"""
RESULTS = ("trials.csv", "pareto.csv", "summary.json", "study.yaml")
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picojoule.figures.save_study_figures", lambda *args: None)
    monkeypatch.setattr("picojoule.sim.report_plots.save_figures", lambda *args: None)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write network, points and study; keywords replace keys of the study, None removes one."""
    (tmp_path / "where").mkdir()
    (tmp_path / "small_nets.py").write_text(NETWORK)
    (tmp_path / "where/points.csv").write_text(POINTS)

    def write(**changes: Any) -> Path:
        study = {
            "network": f"{tmp_path / 'small_nets.py'}:make",
            "points": "points.csv",
            "hardware": "edge-16x16",
            "space": {
                "network.variant": ["plain", "wide"],
                "network.width": [4, 8],
                "network.bound": [1, 2],
                "hardware.rows": [4, 8, 16],
                "hardware.dataflow": ["os", "ws"],
            },
            "objectives": {"accuracy": "max", "latency_s": "min"},
            "trials": 40,
            "seed": 1,
        } | changes
        path = tmp_path / "where/study.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in study.items() if v is not None}, sort_keys=False))
        return path

    return write


def search(study: Path | Mapping[str, Any], out: Path | None, **options: Any) -> pj.StudyResult:
    return run_search(SearchRequest(study=study, out=out, **options), say=lambda text: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def built() -> list[Any]:
    import sys

    return sys.modules["small_nets"].__dict__["BUILT"]  # type: ignore[no-any-return]


def test_each_trial_is_a_network_on_hardware_with_its_trained_accuracy(make: Make, tmp_path: Path) -> None:
    """Costs are those of `evaluate` of the network built with these arguments; what has no point fails, and says so."""
    found = search(make(sampler="grid", trials=100), tmp_path / "out")
    assert len(found) == 48
    accuracy = {("plain", 4): 0.5, ("plain", 8): 0.6, ("wide", 4, 1): 0.62, ("wide", 4, 2): 0.64, ("wide", 8, 1): 0.66}
    for row in found.rows():
        variant, width, bound = (row[f"network.{name}"] for name in ("variant", "width", "bound"))
        wanted = accuracy.get((variant, width) if variant == "plain" else (variant, width, bound))
        if wanted is None:
            said = "no trained point for network.variant=wide, network.width=8, network.bound=2 in points.csv"
            assert (row["state"], row["message"]) == ("failed", said)
        else:
            assert (row["state"], row["accuracy"]) == ("complete", wanted)
    assert (found.columns["state"] == "failed").sum() == 6
    from small_nets import make as build  # the study put its folder on the path

    row = next(r for r in found.rows() if r["network.variant"] == "wide" and r["network.bound"] == 2)
    keys = {k.removeprefix("hardware."): v for k, v in row.items() if k.startswith("hardware.")}
    module, inputs = build(variant="wide", width=4, bound=2)
    report = pj.evaluate(pj.trace(module, inputs), "edge-16x16", overrides=keys)
    assert row["latency_s"] == report.totals["latency_s"]
    best = found.front[0]
    assert (best["accuracy"], best["accuracy_low"], best["accuracy_test"]) == (0.66, 0.64, 0.65)
    front = (tmp_path / f"out/front/{best['number']:05d}/report.json").read_text()
    assert "small_nets.make(variant=wide, width=8, bound=1)" in front


def test_arguments_that_mean_nothing_to_a_network_do_not_repeat_it_on_the_front(make: Make, tmp_path: Path) -> None:
    """A plain network has no bound (its cells are blank): bounds 1 and 2 are one design, and the first trial stands for both."""
    study = make(sampler="grid", trials=100)
    (tmp_path / "where/points.csv").write_text(POINTS.replace("plain,8,,0.60,0.58,0.62", "plain,8,,0.70,0.68,0.72"))
    found = search(study, tmp_path / "out")
    front = [row for row in found.rows() if row["on_front"]]
    plain = [row for row in front if row["network.variant"] == "plain"]
    assert plain and {row["network.bound"] for row in plain} == {1}
    for row in plain:
        twin = next(
            other
            for other in found.rows()
            if other["network.bound"] == 2 and all(other[k] == row[k] for k in found.spec.space if k != "network.bound")
        )
        assert (twin["accuracy"], twin["latency_s"], twin["on_front"]) == (row["accuracy"], row["latency_s"], False)
        assert twin["number"] > row["number"]
    kept = read_study(tmp_path / "out")
    assert [row["number"] for row in kept.front] == [row["number"] for row in found.front]
    assert sorted(row["number"] for row in kept.front) == [row["number"] for row in front]


@pytest.mark.parametrize(("cost", "kept"), [(1.0, [True, False, True]), (0.5, [False, True, True])])
def test_what_costs_otherwise_is_no_repeat(make: Make, cost: float, kept: list[bool]) -> None:
    """Of three trials two are plain with other bounds, and one is of a network whose bound counts."""
    spec = read_study_file(make(objectives={"accuracy": "max", "latency_s": "min", "macs": "min"}))
    points = read_points(Path(str(spec.points)), spec.varied)
    hardware = {"hardware.rows": 4, "hardware.dataflow": "os"}
    chosen = [("plain", 1, 1.0, 2.0), ("plain", 2, cost, 2.0), ("wide", 2, 9.0, 1.0)]
    values = [{"network.variant": v, "network.width": 4, "network.bound": b} | hardware for v, b, _, _ in chosen]
    outcomes = [
        failed_outcome("price", "")
        | {"state": "complete", "values": {"accuracy": 0.5, "latency_s": latency, "macs": macs}}
        for _, _, latency, macs in chosen
    ]
    assert columns_of(spec, values, outcomes, points)["on_front"].tolist() == kept
    assert columns_of(spec, values, outcomes)["on_front"].tolist() == [cost == 1.0, True, True]


def test_a_network_is_traced_once(make: Make) -> None:
    import picojoule.studies.network_pricing as pricing

    made: list[Any] = []
    original = pricing.plain_network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pricing, "plain_network", lambda source: made.append(source.arguments) or original(source))  # type: ignore[func-returns-value]
        search(make(sampler="grid", trials=48), None)
    assert len(made) == len(set(made)) == 7  # eight networks, one of which has no point


def test_stopped_and_resumed_it_is_the_same_study(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from picojoule.studies.storage import TrialStore

    search(make(), tmp_path / "whole")
    original = TrialStore.finish

    def finish(self: TrialStore, number: int, *rest: Any) -> None:
        if number == 19:
            raise KeyboardInterrupt
        original(self, number, *rest)

    monkeypatch.setattr(TrialStore, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        search(make(), tmp_path / "out")
    assert 16 < len(read_study(tmp_path / "out")) < 24
    monkeypatch.setattr(TrialStore, "finish", original)
    search(make(), tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    again = read_study(tmp_path / "out")
    assert again.accuracy_is == "val AP50, trained points"
    (tmp_path / "where/points.csv").unlink()  # the study's own folder is enough
    search(tmp_path / "out/study.yaml", tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.full
def test_other_jobs_find_the_same(make: Make, tmp_path: Path) -> None:
    search(make(), tmp_path / "one")
    search(make(), tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_changed_points_are_refused(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from picojoule.studies.storage import TrialStore

    points, original = tmp_path / "where/points.csv", TrialStore.finish
    search(make(), tmp_path / "out")
    points.write_text(POINTS.replace("0.66,", "0.67,"))
    with pytest.raises(pj.InputError, match=r"what its results depend on has changed: points \(\w+ -> \w+\)"):
        search(make(), tmp_path / "out", resume=True)
    points.write_text(POINTS)

    def finish(self: TrialStore, number: int, *rest: Any) -> None:
        if number == 9:
            points.write_text(POINTS.replace("0.66,", "0.67,"))
        original(self, number, *rest)

    monkeypatch.setattr(TrialStore, "finish", finish)
    with pytest.raises(pj.InputError, match="what its results depend on has changed: points"):
        search(make(), tmp_path / "other")
    assert len(read_study(tmp_path / "other")) == 10


def test_designs_that_cannot_be_built_are_infeasible(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the accelerator refuses when it is made, as boards do, or when it is given the network."""
    from picojoule.accel.systolic import SystolicArray

    class Board(SystolicArray):
        price_designs = None  # type: ignore[assignment]

        def __init__(self, spec: Any) -> None:
            if spec.rows == 16:
                raise InfeasibleError("needs 400 DSP, the board has 360")
            super().__init__(spec)

        def evaluate(self, network: Any, **options: Any) -> Any:
            if self.spec.rows == 8:
                raise InfeasibleError("the line buffer is too short")
            return super().evaluate(network, **options)

    monkeypatch.setattr("picojoule.sim.hardware.accelerator_class", lambda kind, where: Board)
    study = make(sampler="grid", trials=48, hardware="edge-32x32")
    found = search(study, tmp_path / "out")
    rows, states, messages = (found.columns[k] for k in ("hardware.rows", "state", "message"))
    priced = ~np.char.startswith(messages.astype(str), "no trained point")
    assert set(states[(rows == 4) & priced]) == {"complete"}
    assert set(states[(rows > 4) & priced]) == {"infeasible"}
    assert set(messages[(rows == 16) & priced]) == {"needs 400 DSP, the board has 360"}
    assert set(messages[(rows == 8) & priced]) == {"the line buffer is too short"}
    assert '"infeasible": 28,' in (tmp_path / "out/summary.json").read_text()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"network.varient": ["plain"]},
            r"study.yaml: space.network.varient: .*small_nets.py:make has no parameter 'varient' "
            r"\(its parameters are variant, width, bound\); did you mean 'variant'\?",
        ),
        ({"network.weight_bits": [4, 99]}, r"space.network.weight_bits: an integer format needs 2 to 32 bits, got 99"),
        ({"network.weight_bits": ["few"]}, "space.network.weight_bits: weight_bits must be a whole number of bits, got 'few'"),
        (
            {"network.width": {"low": 1.0, "high": 2.0}},
            "space.network.width: trained points are at single values; give a list of them",
        ),
        (
            {"network.depth": [1]},
            r"small_nets.py:make has no parameter 'depth' \(its parameters are variant, width, bound\)",
        ),
    ],
)  # fmt: skip
def test_bad_keys(space: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(pj.InputError, match=message):
        search(make(space=space | {"hardware.rows": [4, 8]}), None)


def test_what_the_function_needs_must_be_given(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "small_nets.py"
    file.write_text(NETWORK.replace('variant="plain", width=4, bound=3', "variant, width=4, bound=3, depth=1"))
    space = {"network.width": [4], "hardware.rows": [4]}
    with pytest.raises(pj.InputError, match=r"make must be given 'variant'; add network.variant to the space"):
        search(make(space=space, points=None, objectives={"latency_s": "min"}), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": {"latency_s": "min"}}, r"points give accuracy; add it to the objectives \(accuracy: max\)"),
        (
            {"space": {"network.width": [4], "compression.lsq.weight_bits": [4]}, "data": "digits"},
            "points say what networks reached as they are; leave out points, or the compression keys",
        ),
        ({"points": None}, "accuracy and compression need data; .* or points: FILE.csv with what networks reached"),
        ({"points": "gone.csv"}, r"where/gone.csv: no such file; expected a CSV table of trained points"),
        (
            {
                "space": {"network.weight_bits": [4], "compression.lsq.weight_bits": [4]},
                "points": None,
                "data": "digits",
            },
            "network.weight_bits and compression methods both set formats; leave out one",
        ),
    ],
)
def test_bad_studies(changes: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(pj.InputError, match=message):
        search(make(**changes), None)


def test_networks_without_a_point_are_told_at_once(make: Make, tmp_path: Path) -> None:
    said: list[str] = []
    run_search(SearchRequest(study=make(sampler="grid", trials=4)), say=said.append)
    lost = "points.csv: no trained point for 1 of 8 networks, such as network.variant=wide, network.width=8, network.bound=2"
    assert said[0].endswith(f"{lost}; their trials fail")
    (tmp_path / "where/points.csv").write_text(POINTS.replace("plain", "other").replace("wide", "odd"))
    with pytest.raises(
        pj.InputError, match=r"no trained point for 8 of 8 networks, such as .*; give a row for each, or"
    ):
        search(make(), None)


def test_the_documented_study_fits_its_network_and_hardware() -> None:
    from picojoule.models.centre_net import VARIANTS
    from picojoule.studies.space import check_space

    docs = Path(__file__).parents[2] / "docs"
    spec = read_study_file(docs / "study-deform.yaml")
    assert spec.space["network.variant"] == VARIANTS
    check_space(spec, "study-deform.yaml")


HEAD = "network.variant,network.width,accuracy\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant,network.width,accuracy\n", "points.csv: holds no trained point; give a row per network"),
        ("network.variant,network.width,acuracy\na,1,0.5\n", "has no column 'accuracy'; did you mean 'acuracy'?"),
        (
            "network.variant,accuracy\na,0.5\n",
            "has no column 'network.width', which the space varies (a blank cell means any value)",
        ),
        (HEAD + "a,1,nan\n", "points.csv:2: 'accuracy' must be a finite number, got nan"),
        (HEAD + "a,1,\n", "points.csv:2: 'accuracy' must be a number, got ''"),
        (HEAD + "a,1,63.1\n", "points.csv:2: 'accuracy' must be a share between 0 and 1, got 63.1; write 63.1 % as 0.631"),
        (HEAD + "a,nan,0.5\n", "points.csv:2: 'network.width' is nan; give a finite number, or leave it blank"),
        (HEAD + "a,1\n", "points.csv:2: has 2 cells where the header has 3"),
        (HEAD + "a,1,0.5\nb,1,0.5\na,1.0,0.6\n", "points.csv:4: means the same network as line 2"),
        (HEAD + "a,1,0.5\nb,1,0.5\n,1,0.6\n", "points.csv:4: means the same network as line"),
        (HEAD + "a,,0.5\n,1,0.6\n", "points.csv:3: means the same network as line 2"),
        ("network.variant,network.width,metric,accuracy\na,1,x,.5\nb,1,y,.5\n", "'metric' must be the same in all rows"),
        (
            "network.variant,network.width,network.depth,accuracy\na,1,3,.5\nb,1,4,.5\n",
            "points.csv:3: 'network.depth' is 4 here and 3 above, but the space does not vary it; add network.depth to the",
        ),
        ("network.variant,network.width,accuracy,accuracy_low,accuracy_high\na,1,.5,.6,.4\n", "'accuracy_low' 0.6 is above"),
        ("network.variant,network.width,weight_bits,network.weight_bits,accuracy\na,1,4,4,.5\n", "stands there twice"),
        ("network.variant,network.width,accuracy,accuracy\na,1,.5,.6\n", "column 'accuracy' stands there twice; leave one out"),
        ("network.variant,network.width,accuracy,seeds, seeds\na,1,.5,6,5\n", "column 'seeds' stands there twice; leave one"),
    ],
)  # fmt: skip
def test_bad_points(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(pj.InputError) as caught:
        read_points(path, ("variant", "width"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_equal_however_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("network.a,network.b,network.c,weight_bits,accuracy\n0.50,true,7,4,.5\n1,false,7.0,4,.25\n")
    points = read_points(path, ("a", "b"))
    assert points.constants == {"c": 7, "weight_bits": 4}
    assert points.find({"a": 0.5, "b": True}) == {"accuracy": 0.5}
    assert points.find({"a": 1.0, "b": False}) == {"accuracy": 0.25}
    assert points.find({"a": 1, "b": True}) is None
    assert points.find({"a": 1, "b": 0}) is None  # false is no number


def test_bits_of_weights_are_a_format(make: Make, tmp_path: Path) -> None:
    """Priced as a plan would be; a constant column of the points builds the network that was trained."""
    (tmp_path / "where/points.csv").write_text("network.width,weight_bits,accuracy\n8,8,0.6\n8,4,0.5\n")
    space = {"network.weight_bits": [4, 8], "hardware.rows": [8]}
    objectives = {"accuracy": "max", "weight_bytes": "min"}
    found = search(make(space=space, sampler="grid", trials=2, objectives=objectives), None)
    network = f"{tmp_path / 'small_nets.py'}:make"
    plan = tmp_path / "plan.yaml"
    for bits, weight_bytes in zip((4, 8), found.columns["weight_bytes"], strict=True):
        plan.write_text(yaml.safe_dump({"layers": {"*": {"weight": {"format": f"int{bits}", "per": "channel"}}}}))
        from picojoule.evaluating import Request, run_request

        four = run_request(Request(network=network, hardware="edge-16x16", compression=plan)).totals["weight_bytes"]
        assert weight_bytes == pytest.approx(2 * four, rel=0.02)  # twice the width; biases keep their format
    assert found.columns["weight_bytes"][1] > 1.8 * found.columns["weight_bytes"][0]
    assert ("plain", 8, 3) in built()


def test_only_the_network_varies(make: Make) -> None:
    """Without keys of the hardware, and without accuracy."""
    space = {"network.width": [4, 8, 16]}
    found = search(make(space=space, points=None, objectives={"latency_s": "min"}, sampler="grid", trials=9), None)
    assert len(found) == 3
    assert list(found.columns["latency_s"]) == sorted(set(found.columns["latency_s"]))
    zoo = search(
        {
            "network": "mlp-784-100-10",
            "space": {"network.hidden": [10, 100]},
            "hardware": "edge-16x16",
            "objectives": {"weight_bytes": "min", "macs": "min"},
            "sampler": "grid",
        },
        None,
    )
    assert list(zoo.columns["macs"]) == [7940, 79400]


def test_a_variant_that_cannot_be_built_fails_alone(make: Make) -> None:
    space = {"network.variant": ["plain", "broken"], "hardware.rows": [4, 8]}
    found = search(make(space=space, points=None, objectives={"latency_s": "min"}, sampler="grid", trials=9), None)
    failed = found.columns["network.variant"] == "broken"
    np.testing.assert_array_equal(found.columns["state"] == "failed", failed)
    said = "small_nets.py: make(variant=broken) failed: ValueError: no such variant"
    assert all(str(m).endswith(said) for m in found.columns["message"][failed])


def test_without_points_each_network_is_trained_and_measured(make: Make, tmp_path: Path) -> None:
    space = {"network.width": [2, 8], "hardware.rows": [4, 8]}
    training = {"pretrain_epochs": 1}
    study = make(space=space, points=None, data="digits", sampler="grid", trials=4, training=training)
    found = search(study, tmp_path / "out")
    accuracy, width = found.columns["accuracy"], found.columns["network.width"]
    assert (found.columns["state"] == "complete").all() and (accuracy > 0.4).all()
    assert len(set(accuracy[width == 8])) == 1 and set(accuracy[width == 2]) != set(accuracy[width == 8])
    assert len(list((tmp_path / "out/base").iterdir())) == 2
    assert all(row["accuracy_test"] is not None for row in found.front)


def test_page_and_figures_say_what_accuracy_is(make: Make, tmp_path: Path) -> None:
    from picojoule.figures_front import plot_front
    from picojoule.pareto_studies import compare_studies

    found = search(make(), tmp_path / "out")
    assert plot_front(found).get_ylabel() == "accuracy (val AP50, trained points), %"
    compared = compare_studies([read_study(tmp_path / "out")])
    assert {row["split"] for row in compared.rows} == {"val AP50, trained points"}
    page = tmp_path / "page.html"
    found.save_report(page)
    assert "accuracy (val AP50, trained points)" in page.read_text()
