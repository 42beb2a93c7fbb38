"""Bit-slice training as a command: what it takes from the hardware, what it refuses before it trains, and what it reports."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from picojoule import compressing
from picojoule.compress import bitslice_caps as caps
from picojoule.compress import load_method
from picojoule.compress.bitslice_config import BitsliceConfig, Polarities, slice_energy_pj
from picojoule.compress.bitslice_hardware import settled
from picojoule.compress.bitslice_training import Trained
from picojoule.compress.plan import read_plan
from picojoule.compressing import CompressionRequest, run_compression
from picojoule.reram.adc_models import AdcModel, adc_energy_pj
from picojoule.sim.errors import InputError, PicojouleError, UnsupportedError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.specs import parse_spec

NETWORK = """import torch
from torch import nn
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)), (torch.zeros(2, 1, 8, 8),)
"""


def settle(
    hardware: str, given: dict[str, Any] | None = None, **changes: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    return settled(load_hardware(hardware, changes).spec, given or {})


def request(folder: Path, **values: Any) -> CompressionRequest:
    (folder / "net.py").write_text(NETWORK)
    stated = {"method": "bitslice", "hardware": "isaac-differential-2b", "data": "digits", **values}
    return CompressionRequest(network=f"{folder / 'net.py'}:build", out=folder / "out", **stated)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Trained:
        raise AssertionError("it trained")

    monkeypatch.setattr(compressing, "train", refuse)
    monkeypatch.setattr("picojoule.compress.bitslice.train_bitslice", refuse)


def test_rows_encoding_and_law_come_from_the_hardware_unless_stated():
    found, warnings = settle("isaac-differential-2b", crossbar_rows=64, adc_model="survey")
    assert found == {"tile_rows": 64, "encoding": "differential", "adc_model": "survey"} and not warnings
    stated = {"tile_rows": 32, "adc_model": "isaac_sar"}
    found, _ = settle("isaac-differential-2b", stated, encoding="split", adc_model="survey", adc_bits=8)
    assert found == {"tile_rows": 32, "encoding": "split", "adc_model": "isaac_sar"}
    assert parse_spec(BitsliceConfig, found, "test").encoding is Polarities.SPLIT
    assert settle("isaac-differential-2b", rows_active=32)[0]["tile_rows"] == 32


@pytest.mark.parametrize(
    ("hardware", "changes", "sentence"),
    [
        ("isaac", {}, "where zero slices are empty cells, and the flip encoding of isaac fills them; use encoding"),
        ("isaac", {"encoding": "offset"}, "the offset encoding of isaac fills them"),
        (
            "isaac-differential-2b",
            {"cell_bits": 4},
            "trains slices of 2 bits, and the cells of isaac-differential-2b hold 4",
        ),
        ("edge-16x16", {}, "edge-16x16 has no crossbars; use isaac-differential-2b, or method 'lsq'"),
    ],
)
def test_hardware_that_rewards_no_slice_is_refused(hardware: str, changes: dict[str, Any], sentence: str):
    with pytest.raises(UnsupportedError) as raised:
        settle(hardware, **changes)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"adc_bits": 8}, "isaac-differential-2b has fixed adc_bits, so"),
        ({"dac_bits": 2}, "has dac_bits 2: its ADCs need about 2 bits more"),
        ({"signed_inputs": "bipolar"}, "has bipolar pulses"),
        ({"rows_active": 32}, "at most 32 rows"),
    ],
)
def test_hardware_that_training_does_not_quite_meet_is_warned_of(changes: dict[str, Any], sentence: str):
    _, (warning,) = settle("isaac-differential-2b", **changes)
    assert sentence in warning


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"budget": "energy=0.1"}, "method 'bitslice' has no setting that a budget could choose; leave out --budget"),
        ({"hardware": "edge-16x16"}, "has no crossbars"),
        ({"hardware": "isaac"}, "the flip encoding of isaac fills them"),
        (
            {"options": {"adc_model": "survey", "budget_pj": 0.5}},
            "budget_pj must pay for one converter, and the narrowest of survey takes 0.924 pJ",
        ),
        ({"hardware": "few.yaml"}, "adc_bits names 3 slices but a weight takes 4 cells"),
    ],
)
def test_refusals_come_before_training_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], sentence: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.yaml").write_text("extends: isaac-differential-2b\nadc_bits: [6, 6, 6]\nweight_bits: 7\n")
    with pytest.raises(PicojouleError) as raised:
        run_compression(request(tmp_path, **values), say=lambda _: None)
    assert sentence in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_network_without_weights_to_slice_is_refused():
    from picojoule.sim.numerics.torch_importer import from_module

    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    with pytest.raises(InputError, match=r"has no convolution or linear module whose weights could be sliced$"):
        load_method("bitslice").formats(model, from_module(model, (torch.zeros(2, 1, 4, 4),)))  # type: ignore[attr-defined]


# --- laws -----------------------------------------------------------------------------------------------------------------


def test_split_columns_convert_both_signs_with_a_bit_less():
    for bits in (2, 5, 9):
        pair = slice_energy_pj(AdcModel.ISAAC_SAR, Polarities.SPLIT, bits)
        assert pair == pytest.approx(2 * float(adc_energy_pj(AdcModel.ISAAC_SAR, bits - 1)))
    assert slice_energy_pj(AdcModel.ISAAC_SAR, Polarities.SPLIT, 0) == 0


@pytest.mark.parametrize(("encoding", "floor"), [("differential", 4), ("split", 5)])
@pytest.mark.parametrize("budget", [2.0, 2.9, 6.0])
def test_the_survey_goes_from_its_four_bits_to_none(encoding: str, floor: int, budget: float):
    from picojoule.compress.bitslice_columns import conversion_energy
    from picojoule.compress.bitslice_config import least_bits

    law = AdcModel.SURVEY, Polarities(encoding)
    w = torch.randn(8, 100, generator=torch.Generator().manual_seed(1))
    found = caps.choose_caps(
        [w], [None], budget_pj=budget, energy_pj=conversion_energy(*law), shifts=(0,), sample=8, least=least_bits(*law)
    )
    assert least_bits(*law) == floor
    assert all(b == 0 or b >= floor for b in found.bits) and any(found.bits) and 0 < found.energy_pj <= budget


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"budget_pj": 1.5}, {"adc_model": "survey"}])
def test_compress_reports_what_training_saves_in_equal_formats(tmp_path: Path, options: dict[str, Any]):
    said: list[str] = []
    run_compression(request(tmp_path, epochs=1, options=options), say=said.append)
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    stages = {s["stage"]: s for s in summary["stages"]}
    assert list(stages) == ["original", "formats alone", "compressed"]
    plain, trained = (stages[s]["adc_pj_per_sample"] for s in ("formats alone", "compressed"))
    assert 0 < trained < plain
    assert any(f"({trained / plain:.3g} of it)" in note for note in summary["notes"])
    assert all(p.weight is not None and p.weight.format == "int9" for p in read_plan(out / "plan.yaml").layers.values())
    assert all((out / s).is_dir() for s in ("original", "formats-alone", "compressed"))
    assert [f"note: {n}" for n in summary["notes"]] == said[-4:]
    note = next(n for n in summary["notes"] if n.startswith("lossless ADCs for 128 wordlines and differential columns"))
    bits = json.loads(note[note.index("adc_bits=") + 9 : note.index("]") + 1])
    shown = re.search(r"least significant first: ([0-9/]+) ", (out / "compressed" / "report.json").read_text())
    assert shown is not None
    assert bits == [
        int(b) or 2 for b in shown[1].split("/")
    ]  # as in the report, and no zeros, which adc_bits does not take
    load_hardware("isaac-differential-2b", {"adc_bits": bits})
