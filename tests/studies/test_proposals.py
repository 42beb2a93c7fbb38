"""What is proposed depends on the study and on earlier batches, on nothing else."""

from collections.abc import Sequence
from typing import Any

import pytest

from picojoule.sim.errors import InputError
from picojoule.studies.proposals import Proposals
from picojoule.studies.space import parameters
from picojoule.studies.spec import StudySpec, parse_study

STUDY: dict[str, Any] = {
    "network": "resnet20",
    "hardware": "edge-32x32",
    "space": {
        "hardware.rows": [4, 8, 16, 32],
        "hardware.dataflow": ["os", "ws"],
        "hardware.cols": {"low": 8, "high": 12},
        "hardware.clock_mhz": [100.0],
    },
    "objectives": {"latency_s": "min", "utilization": "max"},
    "constraints": {"area_mm2": {"max": 2.0}},
    "batch_size": 4,
    "population": 8,
}


def study(**changes: Any) -> StudySpec:
    return parse_study({**STUDY, **changes}, "study")


def result(values: dict[str, Any]) -> tuple[list[float] | None, dict[str, float]]:
    """Return an outcome that depends on the values alone; some trials fail, some break the limit."""
    if values["hardware.rows"] == 32 and values["hardware.dataflow"] == "ws":
        return None, {}
    cost = 100 / values["hardware.rows"] + (3 if values["hardware.dataflow"] == "os" else 0)
    return [cost, values["hardware.rows"] / values["hardware.cols"]], {"area_mm2": values["hardware.cols"] - 10.5}


def run(proposals: Proposals, batches: Sequence[int]) -> list[list[dict[str, Any]]]:
    asked = []
    for batch, count in enumerate(batches):
        asked.append(proposals.ask(batch, count))
        proposals.tell([result(values) for values in asked[-1]])
    return asked


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random", "grid"])
def test_the_same_outcomes_bring_the_same_batches(sampler: str) -> None:
    spec = study(sampler=sampler)
    first, again = (run(Proposals(spec, parameters(spec)), [4] * 10) for _ in range(2))
    assert first == again
    for values in (v for batch in first for v in batch):
        assert list(values) == list(spec.space)
        assert values["hardware.rows"] in (4, 8, 16, 32) and values["hardware.cols"] in range(8, 13)
        assert values["hardware.clock_mhz"] == 100.0
    if sampler != "grid":
        other = study(sampler=sampler, seed=1)
        assert run(Proposals(other, parameters(other)), [4]) != first[:1]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe"])
def test_a_sampler_learns(sampler: str) -> None:
    spec = study(sampler=sampler)
    batches = run(Proposals(spec, parameters(spec)), [4] * 40)

    def good(values: dict[str, Any]) -> bool:
        violated = result(values)[1].get("area_mm2", 1.0) > 0
        return values["hardware.rows"] in (16, 32) and not violated and result(values)[0] is not None

    early, late = ([good(v) for batch in part for v in batch] for part in (batches[:6], batches[-12:]))
    assert sum(late) / len(late) > sum(early) / len(early) + 0.15


def test_a_grid_is_the_full_factorial_last_key_fastest() -> None:
    spec = study(sampler="grid")
    proposals = Proposals(spec, parameters(spec))
    assert proposals.most == 4 * 2 * 5
    asked = [v for batch in run(proposals, [4] * 10) for v in batch]
    assert [(v["hardware.rows"], v["hardware.dataflow"], v["hardware.cols"]) for v in asked] == [
        (rows, flow, cols) for rows in (4, 8, 16, 32) for flow in ("os", "ws") for cols in range(8, 13)
    ]


def test_a_grid_needs_steps() -> None:
    spec = study(sampler="grid", space={"hardware.clock_mhz": {"low": 100.0, "high": 200.0}})
    with pytest.raises(
        InputError, match=r"space.hardware.clock_mhz: a grid needs steps; give 'step', or another sampler"
    ):
        Proposals(spec, parameters(spec))
