"""STUDY.yaml: what it says, and what is refused with which words."""

from pathlib import Path
from typing import Any

import pytest

from picojoule.sim.errors import InputError
from picojoule.studies.space import check_space, parameters, point_of
from picojoule.studies.spec import differences, parse_study, read_study_file

CONTRACT = """
schema: 1
network: resnet20
data: fashion-mini
hardware: edge-32x32
space:
  hardware.rows: [8, 16, 32, 64]
  hardware.dataflow: [os, ws, is]
  compression.slimming.ratio: {low: 0.0, high: 0.8, step: 0.1}
  compression.lsq.weight_bits: [8, 6, 4, 3, 2]
objectives: {accuracy: max, energy_pj_per_sample: min, latency_s: min}
constraints: {area_mm2: {max: 5.0}}
sampler: nsga2            # nsga2 | nsga3 | tpe | random | grid
batch_size: 8             # belongs to the study, not to --jobs: same seed, same front
trials: 200
training: {epochs: 6, proxy_epochs: 1, promote: 0.3}
seed: 0
"""
SMALL: dict[str, Any] = {
    "network": "resnet20",
    "hardware": "edge-32x32",
    "space": {"hardware.rows": [8, 16]},
    "objectives": {"latency_s": "min"},
}


def test_the_contract_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(CONTRACT)
    spec = read_study_file(path)
    assert spec.metrics == ("accuracy", "energy_pj_per_sample", "latency_s", "area_mm2")
    assert spec.limits == {"area_mm2": (None, 5.0)}
    assert not spec.hardware_only
    assert parameters(spec)[2].choices == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    again = tmp_path / "again.yaml"
    again.write_text(spec.to_yaml())
    assert read_study_file(again) == spec
    assert differences(spec, read_study_file(again)) == []


def test_settings_come_by_method_pruning_before_bits() -> None:
    values = {"compression.lsq.weight_bits": 4, "hardware.rows": 8, "compression.slimming.ratio": 0.3}
    point = point_of(values)
    assert point.hardware == {"rows": 8}
    assert list(point.methods.items()) == [("slimming", {"ratio": 0.3}), ("lsq", {"weight_bits": 4})]


@pytest.mark.parametrize(
    ("given", "choices"),
    [
        ({"low": 1, "high": 4}, (1, 2, 3, 4)),
        ({"low": 2, "high": 11, "step": 3}, (2, 5, 8, 11)),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, (0.0, 0.1, 0.2, 0.3)),
        ({"low": 1, "high": 4, "log": True}, (1, 2, 3, 4)),
        ({"low": 0.5, "high": 2.5}, None),
    ],
)
def test_ranges(given: dict[str, Any], choices: tuple[float, ...] | None) -> None:
    spec = parse_study({**SMALL, "space": {"hardware.dram_gib_per_s": given}}, "study.yaml")
    assert parameters(spec)[0].choices == choices


def test_only_sorted_numbers_have_neighbors() -> None:
    space = {"hardware.rows": [8, 16, 32], "hardware.cols": [16, 8, 32], "hardware.dataflow": ["os", "ws", "is"]}
    assert [p.ordered for p in parameters(parse_study({**SMALL, "space": space}, "s"))] == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": 0},
            "s.yaml: schema 0 is an older one; this version reads schema 1: write the study anew by the README",
        ),
        ({"schema": 7}, "s.yaml: schema 7 is a newer one; this version reads schema 1: install a newer picojoule"),
        ({"sampler": "nsga"}, "s.yaml: sampler must be 'nsga2', 'nsga3', 'tpe', 'random' or 'grid', got 'nsga'"),
        ({"trails": 3}, "s.yaml: unknown key 'trails'; did you mean 'trials'?"),
        ({"trials": -3}, "s.yaml: trials must be at least 1, got -3"),
        ({"space": {}}, "s.yaml: space must hold at least one key"),
        (
            {"space": {"hardware.rows": 8}},
            "s.yaml: space.hardware.rows must be a list of values or a range (low, high), got 8; one value is written [8]",
        ),
        (
            {"space": {"hardware.rows": [8, 8]}},
            "s.yaml: space.hardware.rows: holds 8 twice; a value may appear once",
        ),
        (
            {"space": {"hardware.rows": []}},
            "s.yaml: space.hardware.rows: must hold at least one value, got an empty list",
        ),
        (
            {"space": {"hardware.rows": {"low": 5, "hihg": 2}}},
            "s.yaml: space.hardware.rows: unknown key 'hihg'; did you mean 'high'? (and 1 more)",
        ),
        (
            {"space": {"hardware.rows": {"low": 5, "high": 2}}},
            "s.yaml: space.hardware.rows: low must not be above high, got 5 and 2",
        ),
        (
            {"space": {"hardwear.rows": [5]}},
            "s.yaml: space key 'hardwear.rows' must be 'hardware.<key>', 'network.<argument>' or "
            "'compression.<method>.<setting>'; did you mean 'hardware'?",
        ),
        ({"constraints": {"area_mm2": {}}}, "s.yaml: constraints.area_mm2: needs min, max or both"),
        (
            {"constraints": {"area_mm2": {"max": float("nan")}}},
            "s.yaml: constraints.area_mm2.max must be a finite number",
        ),
        ({"objectives": {"latency_s": "least"}}, "s.yaml: objectives.latency_s must be 'min' or 'max', got 'least'"),
        ({"objectives": {"latency": "min"}}, "s.yaml: objectives: unknown metric 'latency'; did you mean 'latency_s'?"),
        (
            {"objectives": {"accuracy": "max"}},
            "s.yaml: accuracy and compression need data; add the key 'data', such as data: fashion-mini",
        ),
    ],
)
def test_bad_studies(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_study({**SMALL, **changes}, "s.yaml")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"hardware.rowz": [8]},
            "s: space.hardware.rowz: edge-32x32.yaml with rowz=8: unknown key 'rowz'; did you mean 'rows'?",
        ),
        (
            {"hardware.rows": [8, -1]},
            "s: space.hardware.rows: edge-32x32.yaml with rows=-1: rows must be at least 1, got -1",
        ),
        ({"compression.lsq.bits": [8]}, "s: space.compression.lsq.bits: method lsq: unknown key 'bits'"),
        ({"compression.slim.ratio": [0.1]}, "s: space.compression.slim.ratio: unknown method 'slim'"),
        (
            {"compression.slimming.ratio": [0.1, 1.5]},
            "s: space.compression.slimming.ratio: method slimming: ratio must be less than 1, got 1.5",
        ),
    ],
)
def test_spaces_that_hardware_or_methods_refuse(space: dict[str, Any], message: str) -> None:
    spec = parse_study({**SMALL, "data": "digits", "space": space}, "s")
    with pytest.raises(InputError) as caught:
        check_space(spec, "s")
    assert str(caught.value).startswith(message)


def test_differences_are_by_key_and_trials_may_grow() -> None:
    old = parse_study(SMALL, "s")
    new = parse_study({**SMALL, "trials": 500, "space": {"hardware.rows": [8, 32]}, "batch_size": 9}, "s")
    assert differences(old, new) == ["space.hardware.rows: [8, 16] -> [8, 32]", "batch_size: 8 -> 9"]
