"""The command line: what it prints, what it writes, and what it says when something is wrong."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from picojoule import cli

HEADER = "name, ifmap h, ifmap w, filter h, filter w, channels, filters, stride\n"
EDGE = ("--hardware", "edge-16x16")
TOTALS = [
    "macs",
    "compute_cycles",
    "stall_cycles",
    "latency_cycles",
    "latency_s",
    "accelerator_latency_s",
    "host_latency_s",
    "interval_s",
    "throughput_per_s",
    "energy_pj",
    "energy_dynamic_pj",
    "energy_static_pj",
    "energy_pj_per_sample",
    "area_mm2",
    "chips",
    "resources",
    "peak_activation_bytes",
    "weight_bytes",
    "utilization",
    "ranges",
]
LAYER = [
    "name",
    "op",
    "unit",
    "m",
    "n",
    "k",
    "groups",
    "macs",
    "compute_cycles",
    "stall_cycles",
    "latency_cycles",
    "latency_s",
    "utilization",
    "mapping_efficiency",
    "compute_utilization",
    "utilization_lost",
    "energy_pj",
    "reads",
    "writes",
    "dram_read_bytes",
    "dram_write_bytes",
    "basis",
]
LAYER_TEXT = ("name", "op", "unit", "basis")
LAYER_MAPS = ("utilization_lost", "energy_pj", "reads", "writes")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs `picojoule WORDS...` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def called(*words: str | Path) -> tuple[int, str, str]:
        code = cli._run([str(w) for w in words], False)
        out, err = capsys.readouterr()
        return code, out, err

    return called


@pytest.fixture
def refused(run: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Return a function that expects one sentence on stderr, nothing on stdout, and gives the sentence."""

    def called(*words: str | Path, code: int = 2) -> str:
        found, out, err = run(*words)
        assert found == code, err
        assert out == ""
        assert "Traceback" not in err
        assert err.count("\n") == 1 and err.endswith("\n")
        assert err.startswith("picojoule: ")
        return err.removeprefix("picojoule: ").rstrip("\n")

    return called


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    path = tmp_path / "two.csv"
    path.write_text(HEADER + "conv1, 8, 8, 3, 3, 4, 8, 1,\nconv2, 6, 6, 3, 3, 8, 8, 1,\n")
    return path


def onnx_file(path: Path, weight: Any = None, *, second: str = "Relu", shape: tuple[Any, ...] = (1, 3, 8, 8)) -> Path:
    values = np.ones((4, 3, 3, 3), np.float32) if weight is None else weight
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="c1"),
        helper.make_node(second, ["y"], ["z"], name="r1"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(values, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def no_constant(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")


def document(text: str) -> Any:
    """Return the one JSON document that a text is; NaN and infinity are no JSON."""
    return json.loads(text, parse_constant=no_constant)


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
@pytest.mark.parametrize("network", ["csv", "onnx", "lenet5"])
def test_json_has_every_key_of_schema_1(
    network: str, hardware: str, run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path
) -> None:
    given = {"csv": topology, "onnx": onnx_file(tmp_path / "n.onnx"), "lenet5": "lenet5"}[network]
    code, out, err = run("evaluate", given, "--hardware", hardware, "--batch", "3", "--format", "json")
    assert (code, err) == (0, "")
    made = document(out)
    assert list(made) == [
        "schema",
        "complete",
        "network",
        "hardware",
        "totals",
        "memory",
        "layers",
        "accuracy",
        "coverage",
        "provenance",
    ]
    assert made["schema"] == 1 and made["complete"] is True and made["accuracy"] is None
    assert list(made["network"]) == ["name", "layers", "macs", "params", "batch"]
    assert made["network"]["batch"] == 3
    assert list(made["hardware"]) == ["name", "kind", "model_version", "assumed_precision"]
    assert made["hardware"]["name"] == hardware
    totals = made["totals"]
    assert list(totals) == TOTALS
    assert set(totals["ranges"]) == {
        "energy_pj", "energy_dynamic_pj", "energy_static_pj", "energy_pj_per_sample", "area_mm2",
    }  # fmt: skip
    assert all(low <= high for low, high in totals["ranges"].values())
    for metric, (low, high) in totals["ranges"].items():
        assert low <= totals[metric] * 1.0001 and totals[metric] * 0.9999 <= high, metric
    assert made["network"]["layers"] == len(made["layers"]) > 0
    for layer in made["layers"]:
        assert list(layer) == LAYER
        assert all(isinstance(layer[key], str) for key in LAYER_TEXT)
        assert all(isinstance(layer[key], dict) for key in LAYER_MAPS)
        assert (layer["m"] is None) == (layer["n"] is None) == (layer["k"] is None) == (layer["groups"] is None)
        assert layer["latency_cycles"] == layer["compute_cycles"] + layer["stall_cycles"] >= 0
        assert layer["utilization"] is None or 0 <= layer["utilization"] <= 1
    assert list(made["coverage"]) == ["macs_priced", "bytes_priced", "unsupported", "notes", "by_op"]
    assert sum(row["macs"] for row in made["coverage"]["by_op"]) == totals["macs"]
    assert made["coverage"]["macs_priced"] == made["coverage"]["bytes_priced"] == 1.0
    assert list(made["provenance"]) == ["versions", "seed", "constants_hash", "weights", "sources"]
    assert made["provenance"]["weights"] == {"csv": "none", "onnx": "file", "lenet5": "random"}[network]
    assert made["provenance"]["sources"] and all(made["provenance"]["sources"].values())


@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
def test_numbers_add_up(hardware: str, run: Callable[..., tuple[int, str, str]], topology: Path) -> None:
    batch = 4
    _, out, _ = run("evaluate", topology, "--hardware", hardware, "--batch", str(batch), "--format", "json")
    made = document(out)
    totals, layers = made["totals"], made["layers"]
    dynamic = sum(sum(layer["energy_pj"].values()) for layer in layers)
    assert dynamic == pytest.approx(totals["energy_dynamic_pj"], rel=1e-12)
    assert dynamic + totals["energy_static_pj"] == pytest.approx(totals["energy_pj"], rel=1e-12)
    assert totals["energy_pj_per_sample"] == pytest.approx(totals["energy_pj"] / batch, rel=1e-12)
    assert totals["macs"] == sum(layer["macs"] for layer in layers) == made["network"]["macs"]
    assert totals["macs"] == batch * (36 * 9 * 4 * 8 + 16 * 9 * 8 * 8)
    assert totals["accelerator_latency_s"] + totals["host_latency_s"] == pytest.approx(totals["latency_s"], rel=1e-12)
    assert totals["throughput_per_s"] == pytest.approx(batch / totals["interval_s"], rel=1e-12)


def test_csv_format_is_the_layer_table(run: Callable[..., tuple[int, str, str]], topology: Path) -> None:
    code, out, err = run("evaluate", topology, *EDGE, "--format", "csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [r["name"] for r in rows] == ["conv1", "conv2"]
    assert [int(r["macs"]) for r in rows] == [36 * 9 * 4 * 8, 16 * 9 * 8 * 8]
    for row in rows:
        parts = [float(v) for k, v in row.items() if k.startswith("energy_pj.")]
        assert sum(parts) == pytest.approx(float(row["energy_pj"]), rel=1e-9)
    flat = [key for key in LAYER if key not in LAYER_MAPS]
    assert [c for c in rows[0] if "." not in c and c != "energy_pj"] == [*flat, "complete"]
    assert {r["complete"] for r in rows} == {"True"}


def test_table_names_network_hardware_and_totals(run: Callable[..., tuple[int, str, str]], topology: Path) -> None:
    code, out, err = run("evaluate", topology, *EDGE)
    assert (code, err) == (0, "")
    for word in ("conv1", "conv2", "two", "edge-16x16", "latency", "energy", "area", "utilization", "memory"):
        assert word in out


def test_run_folder(run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    code, out, err = run("evaluate", topology, *EDGE, "--set", "rows=8", "--out", folder, "--format", "json")
    assert (code, err) == (0, f"saved to {folder}\n")
    assert sorted(p.name for p in folder.iterdir()) == [
        "components.csv", "config.resolved.yaml", "energy.png", "latency.png", "layers.csv", "provenance.json", "report.json",
    ]  # fmt: skip
    made = document((folder / "report.json").read_text())
    assert made == document(out)
    assert document((folder / "provenance.json").read_text()) == made["provenance"]
    for figure in ("energy.png", "latency.png"):
        content = (folder / figure).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5_000
    components = list(csv.DictReader(io.StringIO((folder / "components.csv").read_text())))
    energy = [float(r["value"]) for r in components if r["metric"] == "energy"]
    assert sum(energy) == pytest.approx(made["totals"]["energy_pj"], rel=1e-9)
    area = [float(r["value"]) for r in components if r["metric"] == "area"]
    assert sum(area) == pytest.approx(made["totals"]["area_mm2"], rel=1e-9)
    assert "rows: 8" in (folder / "config.resolved.yaml").read_text()
    code, again, _ = run("evaluate", topology, "--hardware", folder / "config.resolved.yaml", "--format", "json")
    assert document(again)["totals"] == made["totals"]


def test_same_words_same_bytes(run: Callable[..., tuple[int, str, str]], topology: Path) -> None:
    words = ("evaluate", topology, *EDGE, "--format", "json", "--seed", "3")
    assert run(*words)[1] == run(*words)[1]


def test_accuracy_is_measured_on_the_test_split(run: Callable[..., tuple[int, str, str]]) -> None:
    words = ("evaluate", "mlp-784-100-10", *EDGE, "--accuracy", "--data", "digits", "--format", "json")
    code, out, err = run(*words)
    assert code == 0, err
    found = document(out)["accuracy"]
    assert list(found) == ["metric", "float", "hardware", "interval", "samples", "split", "seeds", "per_seed"]
    assert (found["seeds"], found["per_seed"]) == (1, [found["hardware"]])
    assert (found["metric"], found["samples"], found["split"]) == ("top1", 360, "test")
    assert found["interval"][0] <= found["hardware"] <= found["interval"][1]


def test_accuracy_over_chips(run: Callable[..., tuple[int, str, str]]) -> None:
    words = ("evaluate", "mlp-784-100-10", "--accuracy", "--data", "digits", "--seeds", "2")
    noisy = (
        "-H",
        "isaac",
        "--set",
        "weight_bits=8",
        "--set",
        "activation_bits=8",
        "--set",
        "device.programming_sigma=0.3",
    )
    code, out, err = run(*words, *noisy, "--format", "json")
    assert code == 0, err
    found = document(out)["accuracy"]
    assert found["seeds"] == 2 and len(set(found["per_seed"])) == 2
    assert found["hardware"] == pytest.approx(sum(found["per_seed"]) / 2)
    code, out, err = run(*words, *EDGE)
    assert code == 0, err
    assert "every chip of this hardware computes alike: one was measured instead of 2" in " ".join(out.split())


def test_converters_of_slices_are_set_as_a_list(
    run: Callable[..., tuple[int, str, str]], refused: Callable[..., str]
) -> None:
    words = ("evaluate", "mlp-784-100-10", "--hardware", "isaac", "--set", "adc_bits=[7,7,7,7]")
    code, out, err = run(*words, "--set", "weight_bits=8", "--format", "json")
    assert code == 0, err
    assert "ADC bits by slice, least significant first: 7/7/7/7 (built so for all tiles)" in out
    assert refused(*words, code=4) == (
        "adc_bits names 4 slices but a weight takes 8 cells of 2 bits; give 8 numbers, or use fewer weight bits"
    )
    assert refused(*words[:-1], "adc_bits=7,7,7,7").endswith(", got '7,7,7,7'; write adc_bits=[7, 7, 7, 7]")
    assert refused(*words[:-1], "adc_bits=null").endswith(
        ", got None; hardware always has ADCs, only CrossbarSpec(adc_bits=None) in Python has none"
    )


@pytest.mark.parametrize("command", ["presets", "methods", "doctor"])
def test_lists(command: str, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run(command, "--format", "json")
    assert (code, err) == (0, "")
    rows = document(out)
    assert isinstance(rows, list) and all(isinstance(r, dict) and list(r) == list(rows[0]) for r in rows)
    names = {r.get("name") or r.get("check") for r in rows}
    expected = {
        "presets": {"edge-16x16", "edge-32x32", "tpu-v1", "isaac", "ultra96-codenet"},
        "methods": {"slimming", "lsq"},
        "doctor": {
            "python",
            "torch",
            "accelerator systolic",
            "accelerator reram",
            "accelerator fpga-deform",
            "preset isaac",
            "data set digits",
            "threads",
        },
    }[command]
    assert expected <= names
    if command == "presets":
        assert all(
            r["about"].endswith(".") and (r["area_mm2"] is None if r["kind"] == "fpga-deform" else r["area_mm2"] > 0)
            for r in rows
        )
    if command == "doctor":
        assert {r["state"] for r in rows} <= {"ok", "missing"}
    code, table, _ = run(command)
    assert code == 0 and len(table.splitlines()) > len(rows)


def test_coverage(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "odd.onnx", second="Frobnicate")
    code, out, err = run("coverage", path, "--format", "json")
    assert (code, err) == (0, "")
    made = document(out)
    assert list(made) == [
        "schema",
        "complete",
        "network",
        "hardware",
        "macs",
        "macs_priced",
        "bytes_priced",
        "unsupported",
        "notes",
        "by_op",
        "inputs",
        "outputs",
        "compression",
        "memory",
    ]
    assert made["complete"] is False and 0 < made["bytes_priced"] < 1
    assert [(u["op"], u["layer"]) for u in made["unsupported"]] == [("Frobnicate", "r1")]
    code, table, _ = run("coverage", path)
    assert code == 0 and "not understood" in table and "r1: node 1, Frobnicate" in table and "INCOMPLETE" in table


def test_unsupported_operators_are_refused_or_marked(
    run: Callable[..., tuple[int, str, str]], refused: Callable[..., str], tmp_path: Path
) -> None:
    path = onnx_file(tmp_path / "odd.onnx", second="Frobnicate")
    sentence = refused("evaluate", path, *EDGE, code=3)
    assert sentence.startswith("odd: cannot price 1 operator(s): Frobnicate (1x: ")
    assert sentence.endswith("or pass --allow-unsupported to price the rest and mark the result INCOMPLETE")
    folder = tmp_path / "out"
    code, out, _ = run("evaluate", path, *EDGE, "--allow-unsupported", "--format", "json", "--out", folder)
    made = document(out)
    assert code == 0 and made["complete"] is False and made["coverage"]["unsupported"]
    assert made["totals"]["macs"] == 36 * 27 * 4
    assert "INCOMPLETE" in run("evaluate", path, *EDGE, "--allow-unsupported")[1]
    assert "(INCOMPLETE)" in run("compare", folder, folder)[1]


# --- hardware files -----------------------------------------------------------------------------------------------------


def test_four_keys_make_a_systolic_array(
    run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("kind: systolic\nrows: 4\ncols: 4\ndataflow: ws\n")
    code, out, err = run("evaluate", topology, "--hardware", file, "--format", "json")
    assert (code, err) == (0, "")
    assert document(out)["hardware"] == {
        "name": "mine", "kind": "systolic", "model_version": "2", "assumed_precision": "int8",
    }  # fmt: skip


def test_extends_changes_only_what_it_names(
    run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path
) -> None:
    (tmp_path / "first.yaml").write_text("extends: edge-16x16\nrows: 8\n")
    (tmp_path / "second.yaml").write_text("extends: first.yaml\ncols: 8\nclock_mhz: 1e3\n")
    _, ours, _ = run("evaluate", topology, "--hardware", tmp_path / "second.yaml", "--format", "json")
    words = [w for pair in ("rows=8", "cols=8", "clock_mhz=1000") for w in ("--set", pair)]
    _, preset, _ = run("evaluate", topology, *EDGE, *words, "--format", "json")
    assert document(ours)["totals"] == document(preset)["totals"]
    assert document(ours)["hardware"]["name"] == "second"


HARDWARE_FILES = {
    "rows: 4\n": "hw.yaml: key 'kind' is missing; say which accelerator this describes: fpga-deform, reram, systolic",
    "kind: [1]\n": "hw.yaml: 'kind' must be text, got [1]; say which accelerator this describes: fpga-deform, reram, systolic",
    "kind: systolc\n": "hw.yaml: unknown kind 'systolc'; did you mean 'systolic'? (choose from 'fpga-deform', 'reram', "
    "'systolic')",
    "kind: systolic\ncolz: 3\nrows: x\n": "hw.yaml: unknown key 'colz'; did you mean 'cols'? (and 1 more)",
    "kind: systolic\nrows: four\n": "hw.yaml: rows must be a valid integer, got 'four'",
    "kind: systolic\nrows: 0\n": "hw.yaml: rows must be at least 1, got 0",
    "kind: systolic\nrows: -2\n": "hw.yaml: rows must be at least 1, got -2",
    "kind: systolic\nrows: 99999999999\n": "hw.yaml: rows must be at most 65536, got 99999999999",
    "kind: systolic\nrows: 010\n": "hw.yaml: rows must be a valid integer, got '010'",
    "kind: systolic\nrows: 1:30\n": "hw.yaml: rows must be a valid integer, got '1:30'",
    "kind: systolic\nrows: true\n": "hw.yaml: rows must be a valid integer, got True",
    "kind: systolic\nclock_mhz: .nan\n": "hw.yaml: clock_mhz must be a finite number, got nan",
    "kind: systolic\ndataflow: wss\n": "hw.yaml: dataflow must be 'os', 'ws' or 'is', got 'wss'",
    "extends: edge-99\n": "hw.yaml: extends: unknown hardware preset 'edge-99'; did you mean 'edge-32x32'? "
    "`picojoule presets` lists them; a file must end in .yaml",
    "extends: gone.yaml\n": "gone.yaml: no such file; expected a hardware description",
    "extends: hw.yaml\n": "hw.yaml: 'extends' is nested deeper than 8 files; is it a circle?",
    "extends: 3\n": "hw.yaml: extends names a preset or a YAML file, got 3",
    "kind: &a systolic\nname: *a\n": "hw.yaml:2:7: not valid YAML: aliases (*name) are not accepted here",
    "kind: systolic\nrows: 3\nrows: 4\n": "hw.yaml:3:1: not valid YAML: key 'rows' appears twice",
    "kind: systolic\n<<: {rows: 3}\n": "hw.yaml: unknown key '<<'",
    "kind: !!python/object/apply:os.system ['touch pwned']\n": "hw.yaml:1:7: not valid YAML: tags such as "
    "!!python/object/apply:os.system are not accepted here",
    "kind: !foo systolic\n": "hw.yaml:1:7: not valid YAML: tags such as !foo are not accepted here",
    "? [a, b]\n: 3\n": "hw.yaml:1:3: not valid YAML: a key must be plain text",
    "a: " + "[" * 50 + "]" * 50: "hw.yaml:1:23: not valid YAML: nested deeper than 20 levels",
    "kind: systolic\n---\nkind: systolic\n": "hw.yaml:2:1: not valid YAML: expected a single document in the stream, "
    "but found another document",
    "kind: [systolic\n": "hw.yaml:2:1: not valid YAML: expected ',' or ']', but got '<stream end>'",
    "kind systolic\n": "hw.yaml: expected a hardware description: a mapping of keys to values",
    "": "hw.yaml: is empty, expected a hardware description",
    "# nothing\n": "hw.yaml: expected a hardware description: a mapping of keys to values",
    "#" * (1 << 20) + "\n": "hw.yaml: is larger than the 1048576 bytes allowed for a hardware description",
    'kind: "a\\0\\e[31m"\n': "hw.yaml: unknown kind 'a\\x00\\x1b[31m' (choose from 'fpga-deform', 'reram', 'systolic')",
}


@pytest.mark.parametrize("text", HARDWARE_FILES, ids=lambda t: t[:30].encode("unicode_escape").decode())
def test_bad_hardware_file(text: str, refused: Callable[..., str], topology: Path, tmp_path: Path) -> None:
    (tmp_path / "hw.yaml").write_text(text)
    assert refused("evaluate", topology, "--hardware", "hw.yaml") == HARDWARE_FILES[text]
    assert not (tmp_path / "pwned").exists()


def test_hardware_file_that_is_no_text(refused: Callable[..., str], topology: Path, tmp_path: Path) -> None:
    (tmp_path / "hw.yaml").write_bytes(b"\xff\xfe")
    sentence = refused("evaluate", topology, "--hardware", "hw.yaml")
    assert sentence == "hw.yaml: not UTF-8 text at byte 0; expected a hardware description"


SETTINGS = {
    "rows": "--set takes key=value, got 'rows'",
    "=4": "--set takes key=value, got '=4'",
    "rows=": "edge-16x16.yaml with rows=None: rows must be a valid integer, got None",
    "row=4": "edge-16x16.yaml with row=4: unknown key 'row'; did you mean 'rows'?",
    "rows=0": "edge-16x16.yaml with rows=0: rows must be at least 1, got 0",
    "rows=4.5": "edge-16x16.yaml with rows=4.5: rows must be a valid integer, got 4.5",
    "rows.x=4": "edge-16x16.yaml with rows.x=4: rows must be a valid integer, got dict",
    "a.b=3": "edge-16x16.yaml with a.b=3: unknown key 'a'",
    "rows=[1": "--set rows:1:3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    "rows=!!python/name:os.system": "--set rows:1:1: not valid YAML: tags such as !!python/name:os.system are not accepted here",
    "kind=systolc": "edge-16x16.yaml with kind=systolc: unknown kind 'systolc'; did you mean 'systolic'? "
    "(choose from 'fpga-deform', 'reram', 'systolic')",
    "dram_type=ddr9": "unknown DRAM type 'ddr9'; did you mean 'ddr4'? (choose from 'ddr3', 'ddr4', 'gddr5', 'gddr6', 'hbm2', "
    "'hbm3', 'hbm4', 'hmc', 'lpddr', 'lpddr4')",
}


@pytest.mark.parametrize("text", SETTINGS)
def test_bad_setting(text: str, refused: Callable[..., str], topology: Path) -> None:
    assert refused("evaluate", topology, *EDGE, "--set", text) == SETTINGS[text]


# --- words ------------------------------------------------------------------------------------------------------------

ZOO = (
    "Give a zoo name (lenet5, mlp-784-100-10, dscnn-fashion, dscnn-fashion-deform, mobilenetv2-fashion, resnet20, "
    "vgg11-cifar, vgg8-cifar, mobilenet-v1, mobilenet-v2, shufflenet-v2, resnet18, resnet50, mobilenet-v3-small, "
    "efficientnet-b0, "
    "convnext-tiny, vit-tiny, unet, yolov3-tiny, centre-net, codenet-a, codenet-b, codenet-c, codenet-d, codenet-e, pointnet, "
    "lstm-tagger, bert-base, gpt2, llama-7b), file.onnx, file.csv, file.json, file.pt2 or file.py:callable"
)
WORDS = {
    "evalute x": "no such command 'evalute'; did you mean 'evaluate', 'validate'; see `picojoule --help`",
    "evaluate": "missing argument 'NETWORK'; see `picojoule evaluate --help`",
    "evaluate two.csv": "missing option '--hardware' / '-H'; see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 extra": "got unexpected extra argument(s) (extra); see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --bacth 2": "no such option: --bacth (Possible options: --batch, --data); "
    "see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --batch x": "--batch must be a valid integer, got 'x'; see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --seed=-1": "--seed must be at least 0, got '-1'; see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --format xml": "invalid value for '--format': 'xml' is not one of 'table', 'json', 'csv'; "
    "see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --batch 0": "batch must be between 1 and 1048576, got 0",
    "evaluate two.csv -H edge-16x16 --batch -3": "batch must be between 1 and 1048576, got -3",
    "evaluate two.csv -H edge-16x16 --batch 9999999999999999999999": "batch must be between 1 and 1048576, "
    "got 9999999999999999999999",
    "evaluate two.csv -H edge-16x16 --chips 0": "--chips takes a whole number of at least 1, or 'auto', got '0'",
    "evaluate two.csv -H edge-16x16 --chips many": "--chips takes a whole number of at least 1, or 'auto', got 'many'",
    "evaluate two.csv -H edge-16x16 --mapping best": "unknown mapping 'best' (choose from 'default', 'search')",
    "evaluate two.csv -H edge-16x16 --accuracy": "--accuracy needs --data, for instance --data fashion-mini",
    "evaluate two.csv -H edge-16x16 --seeds 3": "--seeds counts the chips whose accuracy is measured, so it needs --accuracy "
    "--data DATA",
    "evaluate two.csv -H edge-16x16 --seeds 0": "--seeds must be at least 1, got '0'; see `picojoule evaluate --help`",
    "evaluate two.csv -H edge-16x16 --data mnist": "unknown data set 'mnist' (choose from 'cifar10:DIR', 'digits', "
    "'fashion-mini', 'idx:DIR', 'images:DIR')",
    "evaluate two.csv -H edge-16x16 --out two.csv": "--out needs a folder, but 'two.csv' is a file",
    "evaluate two.csv -H edge-16x16 --out two.csv/a": "two.csv/a/report.json: cannot write: 'two.csv/a' is not a folder",
    "evaluate two.csv -H edge-16x16 --weights w.pt": "two.csv: --weights belongs to zoo names and file.py:callable; "
    "this file carries its own weights",
    "evaluate two.csv -H edge-16x16 --input-shape 1,4,8,8": "two.csv: a topology CSV states its own sizes; "
    "leave out --input-shape",
    "evaluate two.csv -H edge-16x17": "unknown hardware preset 'edge-16x17'; did you mean 'edge-16x16'? "
    "`picojoule presets` lists them; a file must end in .yaml",
    "evaluate two.csv -H zzz": "unknown hardware preset 'zzz'. `picojoule presets` lists them; a file must end in .yaml",
    "evaluate two.csv -H gone.yaml": "gone.yaml: no such file; expected a hardware description",
    "evaluate lenet6 -H edge-16x16": f"unknown network 'lenet6'; did you mean 'lenet5'? {ZOO}",
    "evaluate zzz -H edge-16x16": f"unknown network 'zzz'. {ZOO}",
    "evaluate net.py -H edge-16x16": "'net.py' names no function; give net.py:NAME, where NAME() returns a torch.nn.Module",
    "evaluate net.pt -H edge-16x16": "'net.pt' holds weights without a network; give the network and --weights net.pt",
    "evaluate gone.onnx -H edge-16x16": "gone.onnx: no such file; give the path of an ONNX model",
    "evaluate gone.csv -H edge-16x16": "gone.csv: no such file; give the path of a topology CSV",
    "evaluate gone.py:build -H edge-16x16": "gone.py: no such file; expected a Python file with a function 'build'",
    "evaluate lenet5 -H edge-16x16 --input-shape 1,1,0,28": "--input-shape needs sizes of at least 1, got '1,1,0,28'",
    "evaluate lenet5 -H edge-16x16 --input-shape 3,28,28": "'lenet5': the first size of --input-shape is the batch axis of one "
    "sample and must be 1, got 3,28,28; write 1,C,H,W, and --batch for more samples",
    "evaluate lenet5 -H edge-16x16 --input-shape 1,a": "--input-shape takes [NAME=]1,3,224,224, got '1,a'",
    "evaluate lenet5 -H edge-16x16 --input-shape 1,2 --input-shape 3,4": "--input-shape is given twice for an input without a "
    "name; write NAME=1,3,224,224 for each input",
    "evaluate two.csv -H edge-16x16 --compression gone.yaml": "gone.yaml: no such file; expected a compression plan",
    "compare two.csv": "compare needs at least two runs made with `evaluate --out`",
    "compare gone gone": "gone/components.csv: no such file; expected the components.csv of `evaluate --out`",
    "pareto gone": "gone: no such file or folder; give the folder of a run or of a study, or a CSV table of results",
    "pareto gone.csv": "gone.csv: no such file; expected a CSV table of results",
}  # fmt: skip


@pytest.mark.parametrize("line", WORDS)
def test_bad_words(line: str, refused: Callable[..., str], topology: Path) -> None:
    assert refused(*line.split()) == WORDS[line]


SYSTOLIC = {
    "--set dataflow=wss": (2, "edge-16x16.yaml with dataflow=wss: dataflow must be 'os', 'ws' or 'is', got 'wss'"),
    "--set dram_gib_per_s=0": (
        2,
        "edge-16x16.yaml with dram_gib_per_s=0: dram_gib_per_s must be at least 0.000001, got 0",
    ),
    "--set dram_gib_per_s=.nan": (
        2,
        "edge-16x16.yaml with dram_gib_per_s=nan: dram_gib_per_s must be a finite number, got nan",
    ),
    "--set ifmap_sram_kib=0": (
        2,
        "edge-16x16.yaml with ifmap_sram_kib=0: ifmap_sram_kib must be greater than 0, got 0",
    ),
    "--set sram=shared": (
        2,
        "edge-16x16.yaml with sram=shared: sram: shared needs sram_kib, the capacity of the one SRAM in KiB",
    ),
    "--set filter_sram_kib=0.1 --set dataflow=ws": (
        4,
        "layer 'conv1' needs 256 bytes of filter SRAM, double-buffered, but there are 102; "
        "set filter_sram_kib to at least 0.25 or use a smaller array",
    ),
}


@pytest.mark.parametrize("words", SYSTOLIC)
def test_arrays_that_cannot_be_are_refused(words: str, refused: Callable[..., str], topology: Path) -> None:
    code, sentence = SYSTOLIC[words]
    assert refused("evaluate", "two.csv", *EDGE, *words.split(), code=code) == sentence


def test_a_layer_of_more_than_2_31_elements_is_counted_exactly_or_refused(
    run: Callable[..., tuple[int, str, str]], refused: Callable[..., str], tmp_path: Path
) -> None:
    side = 46_342  # its square is just above 2^31
    (tmp_path / "large.csv").write_text(HEADER + f"conv, {side}, {side}, 1, 1, 40, 24, 1,\n")
    code, out, _ = run("evaluate", "large.csv", *EDGE, "--set", "dataflow=ws", "--format", "json")
    assert code == 0
    (layer,) = json.loads(out)["layers"]
    m, folds = side * side, [(r, c) for c in (16, 8) for r in (16, 16, 8)]
    assert layer["compute_cycles"] == sum(m + 2 * r + c - 2 for r, c in folds)
    assert layer["macs"] == m * 40 * 24
    assert layer["reads"]["sram.ifmap"] == m * 40 * 2
    assert layer["writes"]["sram.ofmap"] == m * 24 * 3
    (tmp_path / "beyond.csv").write_text(HEADER + "conv, 4096, 4096, 1, 1, 65536, 1048576, 1,\n")
    assert refused("evaluate", "beyond.csv", *EDGE).endswith("give counts beyond 64-bit integers; split the layer")


def test_huge_input_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    onnx_file(tmp_path / "open.onnx", shape=("N", 3, "H", "W"))
    words = ("evaluate", "open.onnx", *EDGE, "--input-shape")
    assert refused(*words, "1,3,99999999999,8") == (
        "open.onnx: sizes of input 'x' must be between 1 and 2147483647, got [1, 3, 99999999999, 8]"
    )
    assert "more than 2^48 elements" in refused(*words, "1,3,2147483647,2147483647")
    assert refused(*words[:-1]) == (
        "open.onnx: input 'x' leaves axis 2 ('H') open; give its shape, for instance --input-shape x=1,3,224,224"
    )


# --- network files ------------------------------------------------------------------------------------------------------

TOPOLOGIES = {
    "": "bad.csv: the file is empty; a topology CSV was expected",
    HEADER: "bad.csv: the file holds no layer; write one per line as 'name, ifmap height, ifmap width, filter height, "
    "filter width, channels, number of filters, stride[, N:M]' or 'name, M, N, K[, N:M]'",
    HEADER + "c1,8,8,3,x,4,8,1\n": "bad.csv:2:10: filter width must be a whole number, got 'x'",
    HEADER + "c1,8,8,3,nan,4,8,1\n": "bad.csv:2:10: filter width must be a whole number, got 'nan'",
    HEADER + "c1,8,8,0,3,4,8,1\n": "bad.csv:2:8: filter height must be between 1 and 2147483647, got 0",
    HEADER + "c1,8,8,-3,3,4,8,1\n": "bad.csv:2:8: filter height must be between 1 and 2147483647, got -3",
    HEADER
    + "c1,99999999999,8,3,3,4,8,1\n": "bad.csv:2:4: ifmap height must be between 1 and 2147483647, got 99999999999",
    HEADER
    + "c1,8,8,9,9,4,8,1\n": "bad.csv:2:8: filter height 9 is larger than ifmap height 8; state the padded ifmap, "
    "a topology CSV has no padding",
}


@pytest.mark.parametrize("text", TOPOLOGIES, ids=[t.splitlines()[-1][:24] if t else "empty" for t in TOPOLOGIES])
def test_bad_topology(text: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    assert refused("evaluate", "bad.csv", *EDGE) == TOPOLOGIES[text]


def test_bad_onnx(refused: Callable[..., str], tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "whole.onnx").read_bytes()
    torn = "net.onnx: this is no ONNX model or a torn one (protobuf cannot decode it); export it again"
    for content, sentence in (
        (b"", "net.onnx: the file is empty; an ONNX model was expected"),
        (whole[: len(whole) // 2], torn),
        (b"garbage\x00\xff" * 30, torn),
    ):
        (tmp_path / "net.onnx").write_bytes(content)
        assert refused("evaluate", "net.onnx", *EDGE) == sentence
        assert refused("coverage", "net.onnx") == sentence


def test_nan_in_onnx(refused: Callable[..., str], tmp_path: Path) -> None:
    weight = np.ones((4, 3, 3, 3), np.float32)
    weight[1, 2, 0, 0] = np.nan
    onnx_file(tmp_path / "net.onnx", weight)
    assert refused("evaluate", "net.onnx", *EDGE) == (
        "net: layer 'c1': parameter 'w' holds NaN or infinite values; every weight must be finite"
    )


def test_network_that_does_not_fit(
    run: Callable[..., tuple[int, str, str]], refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "big.csv").write_text("fc, 100, 512, 512\n")  # 512 x 512 16-bit weights: 4 x 4 tiles x 8 slices
    small = ("--hardware", "isaac", "--set", "tiles_per_chip=1", "--set", "imas_per_tile=1")  # 8 crossbars
    for asked in ("1", "3"):
        sentence = refused("evaluate", "big.csv", *small, "--chips", asked, code=4)
        assert (
            sentence
            == f"big needs 16 chips of 'isaac' for its 128 crossbars, got {asked}; pass --chips 16 or --chips auto"
        )
    code, out, _ = run("evaluate", "big.csv", *small, "--chips", "auto", "--format", "json")
    assert code == 0 and document(out)["totals"]["chips"] == 16


PLANS = {
    "schema: 2\nlayers: {}\n": (2, "plan.yaml: schema must be 1, got 2"),
    "schema: 1\nlayers:\n  '*': {weight: {format: int16}}\n": (
        4,
        "layer 'conv1': weight format int16 needs 16 bits but the PEs of 'edge-16x16' have 8; "
        "set weight_bits=16 or use fewer bits",
    ),
    "schema: 1\nlayers:\n  '*': {weight: {format: bf16}}\n": (
        3,
        "layer 'conv1': weight format bf16 does not run on the integer PEs of 'edge-16x16'; quantise it to at most int8",
    ),
    "schema: 1\nlayers:\n  conv1: {weight: {fromat: int4}}\n": (
        2,
        "plan.yaml: unknown key 'layers.conv1.weight.fromat'; did you mean 'format'? (and 1 more)",
    ),
    "schema: 1\nlayers:\n  conv1: {wieght: {format: int4}}\n": (
        2,
        "plan.yaml: unknown key 'layers.conv1.wieght'; did you mean 'weight'?",
    ),
    "schema: 1\nlayers:\n  conv1: {weight: {format: int99}}\n": (
        2,
        "plan.yaml: layers.conv1.weight.format is refused: an integer format needs 2 to 32 bits, got 99",
    ),
    "schema: 1\nlayers:\n  conv9: {weight: {format: int4}}\n": (
        2,
        "plan: name 'conv9' matches no layer of two; did you mean 'conv2'?",
    ),
}


@pytest.mark.parametrize("text", PLANS, ids=lambda t: t.splitlines()[-1].strip())
def test_bad_plan(text: str, refused: Callable[..., str], topology: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    code, sentence = PLANS[text]
    assert refused("evaluate", topology, *EDGE, "--compression", "plan.yaml", code=code) == sentence


def test_plan_lowers_traffic(run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("schema: 1\nlayers:\n  '*': {weight: {format: int4}}\n")
    _, plain, _ = run("evaluate", topology, *EDGE, "--format", "json")
    _, planned, _ = run("evaluate", topology, *EDGE, "--compression", "plan.yaml", "--format", "json")
    before, after = document(plain)["totals"], document(planned)["totals"]
    assert after["weight_bytes"] * 2 == before["weight_bytes"]
    assert after["energy_pj"] < before["energy_pj"]


# --- weights and Python files (these import torch) ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def state() -> Any:
    from picojoule.models.zoo import build

    return {k: v.contiguous() for k, v in build("mlp-784-100-10").state_dict().items()}


MLP = ("evaluate", "mlp-784-100-10", *EDGE, "--weights")


def test_weights_are_read(run: Callable[..., tuple[int, str, str]], state: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        code, out, err = run(*MLP, name, "--format", "json")
        assert (code, err) == (0, "")
        assert document(out)["provenance"]["weights"] == f"file {name}"


def test_bad_weights(refused: Callable[..., str], state: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    def changed(**changes: Any) -> str:
        values = {**state, **{k.replace("__", "."): v for k, v in changes.items()}}
        save_file({k: v for k, v in values.items() if v is not None}, tmp_path / "w.safetensors")
        return refused(*MLP, "w.safetensors")

    first = state["fc1.weight"]
    broken = first.clone()
    broken[3, 4] = float("nan")
    assert changed(fc1__weight=broken) == (
        "mlp-784-100-10: layer 'fc1': parameter 'fc1.weight' holds NaN or infinite values; every weight must be finite"
    )
    assert changed(fc1__weight=None) == "w.safetensors: has no tensor 'fc1.weight'"
    assert changed(fc1__weight=None, fc1__wieght=first.clone()) == (
        "w.safetensors: has no tensor 'fc1.weight'; did you mean 'fc1.wieght'?"
    )
    assert changed(extra=first.clone()) == "w.safetensors: tensor 'extra' is not in the network"
    assert changed(fc1__weight=torch.zeros(3, 3)) == (
        "w.safetensors: tensor 'fc1.weight' is [3, 3], the network needs [100, 784]"
    )
    assert changed(fc1__weight=torch.ones(100, 784, dtype=torch.int8)) == (
        "w.safetensors: tensor 'fc1.weight' holds torch.int8, the network needs torch.float32; dequantise it"
    )
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:900])
    assert refused(*MLP, "w.safetensors").startswith("w.safetensors: torn, or no safetensors file (")
    assert refused(*MLP, "gone.pt") == "gone.pt: no such file; expected .safetensors or .pt weights"


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_pickles_are_never_loaded(refused: Callable[..., str], state: Any, tmp_path: Path) -> None:
    import pickle

    import torch

    (tmp_path / "a.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"fc1.weight": Bomb()}, tmp_path / "b.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "c.pt")
    for name in ("a.pt", "b.pt", "c.pt"):
        assert refused(*MLP, name) == (
            f"{name}: holds more than tensors, or is torn; pickled objects are never loaded, as they can run any code: "
            "save model.state_dict(), best as safetensors"
        )
    assert not (tmp_path / "pwned").exists()
    torch.save({1: torch.ones(1)}, tmp_path / "d.pt")
    assert refused(*MLP, "d.pt") == "d.pt: must hold a state dict of tensors, got Tensor under 1"
    torch.save(state, tmp_path / "e.pt")
    for content in (b"", (tmp_path / "e.pt").read_bytes()[:1000]):
        (tmp_path / "e.pt").write_bytes(content)
        assert refused(*MLP, "e.pt") == "e.pt: torn, or no file of torch.save; save model.state_dict() again"


def test_compress_writes_what_evaluate_reads(
    run: Callable[..., tuple[int, str, str]], refused: Callable[..., str], tmp_path: Path
) -> None:
    words = ("compress", "mlp-784-100-10", *EDGE, "--data", "digits", "--out", "made", "--method")
    assert (
        refused(*words, "lsk")
        == "unknown method 'lsk'; did you mean 'lsq'? (choose from 'bitslice', 'hamming', 'lsq', 'reorder', 'slimming')"
    )
    assert refused(*words, "lsq", "--option", "bits") == "--option takes key=value, got 'bits'"
    options = ("--option", "weight_bits=4", "--option", "first_last_bits=4", "--epochs", "1", "--pretrain", "1")
    code, out, err = run(*words, "lsq", *options, "--format", "json")
    assert code == 0, err
    stages = {s["stage"]: s for s in document(out)["stages"]}
    assert {"plan.yaml", "model.safetensors"} <= {p.name for p in (tmp_path / "made").iterdir()}
    plan = ("--compression", "made/plan.yaml", "--weights", "made/model.safetensors")
    code, out, err = run(
        "evaluate", "mlp-784-100-10", *EDGE, *plan, "--accuracy", "--data", "digits", "--format", "json"
    )
    assert code == 0, err
    measured, totals = document(out)["accuracy"], document(out)["totals"]
    assert measured["hardware"] == stages["compressed"]["accuracy_hardware"] > 0.5
    assert totals["energy_pj_per_sample"] == stages["compressed"]["energy_pj_per_sample"]
    assert totals["energy_pj_per_sample"] < stages["original"]["energy_pj_per_sample"]


USER_FILE = """
import sys
import torch
from torch import nn

print("imported")

def good(): print("called"); return nn.Linear(4, 3), torch.randn(2, 4)
def bare(): return nn.Linear(4, 3)
def number(): return 3
def fails(): raise RuntimeError("first\\nsecond")
def leaves(): sys.exit(7)
def takes(what): return what
def misfit(): return nn.Linear(4, 3), torch.randn(2, 5)
def wrong_inputs(): return nn.Linear(4, 3), 5
def broken():
    module = nn.Linear(4, 3)
    module.weight.data[0, 0] = float("inf")
    return module, torch.randn(2, 4)
class Chooses(nn.Module):
    def forward(self, x): return x if x.sum() > 0 else -x
def chooses(): return Chooses(), torch.randn(2, 4)
"""
USER_ERRORS = {
    "gud": "user_net.py: has no function 'gud'; did you mean 'good'?",
    "zzz": "user_net.py: has no function 'zzz'; give one that returns a torch.nn.Module",
    "bare": "user_net.py: bare() returns no example inputs; return (module, inputs) or give --input-shape 1,3,224,224",
    "number": "user_net.py: number() must return a torch.nn.Module or (Module, example inputs), got int",
    "fails": "user_net.py: fails() failed: RuntimeError: first second",
    "leaves": "user_net.py: leaves() failed: it calls sys.exit(7); keep that under `if __name__ == '__main__'`",
    "takes": "user_net.py: takes() failed: TypeError: takes() missing 1 required positional argument: 'what'",
    "misfit": "Linear fails on inputs of shape [2, 5]: mat1 and mat2 shapes cannot be multiplied (2x5 and 4x3); "
    "give fitting inputs (--input-shape)",
    "wrong_inputs": "example input 0 must be a tensor, got int",
    "broken": "user_net.broken: layer 'linear': parameter 'weight' holds NaN or infinite values; every weight must be finite",
}


def test_bad_python_file(run: Callable[..., tuple[int, str, str]], refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "user_net.py").write_text(USER_FILE)
    code, out, err = run("evaluate", "user_net.py:good", *EDGE, "--format", "json")
    assert code == 0
    assert document(out)["network"]["name"] == "user_net.good"
    assert err == "imported\ncalled\n", "what a user's file prints must not mix with results"
    for name, sentence in USER_ERRORS.items():
        assert refused("evaluate", f"user_net.py:{name}", *EDGE) == sentence
    code, out, err = run("evaluate", "user_net.py:chooses", *EDGE, "--format", "json")
    assert code == 0
    (note,) = (n for n in document(out)["coverage"]["notes"] if n.startswith("recorded"))
    assert re.fullmatch(
        r"recorded along the path that the example took, because user_net\.py:\d+ depends on the data: other branches are "
        "not counted, numbers taken out of tensors stay the example's, work done outside torch is missing; "
        "run it on the example only",
        note,
    )


def test_python_file_that_cannot_be_imported(refused: Callable[..., str], tmp_path: Path) -> None:
    for text, said in (
        ("def build(:\n", "SyntaxError: invalid syntax (torn_net.py, line 1)"),
        ("import nothing_like_this\n", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("raise SystemExit('bye')\n", "it calls sys.exit('bye'); keep that under `if __name__ == '__main__'`"),
    ):
        (tmp_path / "torn_net.py").write_text(text)
        assert refused("evaluate", "torn_net.py:build", *EDGE) == f"torn_net.py: importing it failed: {said}"
        assert "torn_net" not in sys.modules


def test_file_called_like_a_module_in_use(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("import torch\ndef build(): return torch.nn.Linear(4, 3), torch.randn(2, 4)\n")
    before = sys.modules["json"]
    code, _, err = run("evaluate", "json.py:build", *EDGE)
    sys.path.remove(str(tmp_path))
    assert code == 0, err
    assert sys.modules["json"] is before


# --- runs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(run: Callable[..., tuple[int, str, str]], topology: Path, tmp_path: Path) -> tuple[Path, Path]:
    for name in ("edge-16x16", "edge-32x32"):
        assert run("evaluate", topology, "--hardware", name, "--out", tmp_path / name)[0] == 0
    return tmp_path / "edge-16x16", tmp_path / "edge-32x32"


def test_compare(run: Callable[..., tuple[int, str, str]], saved: tuple[Path, Path]) -> None:
    code, out, err = run("compare", *saved, "--format", "json")
    assert (code, err) == (0, "")
    (row,) = document(out)
    assert (row["a"], row["b"]) == ("edge-16x16", "edge-32x32")
    for side, folder in zip("ab", saved, strict=True):
        total = document((folder / "report.json").read_text())["totals"]["energy_pj_per_sample"]
        assert row[f"{side}_pj_per_sample"] == pytest.approx(total, rel=1e-9)
    assert 0 <= row["p_a_less"] <= 1 and row["decided_by"]
    (same,) = document(run("compare", saved[0], saved[0], "--format", "json")[1])
    assert same["p_a_less"] == 0.5 and same["decided_by"] is None


TABLE = "layer,component,metric,value,unit,source,basis\n"
TORN = [
    ("report.json", "{"),
    ("report.json", "[]"),
    ("report.json", "{}"),
    ("report.json", "[" * 100_000),
    ("components.csv", "layer,component\n"),
    ("components.csv", TABLE),
    ("components.csv", TABLE + "a,b,energy,nan,pJ,x,y\n"),
    ("components.csv", '"' + "x" * 200_000),
]


def test_torn_runs(refused: Callable[..., str], saved: tuple[Path, Path]) -> None:
    first, second = saved
    for file, text in TORN:
        whole = (second / file).read_text()
        (second / file).write_text(text)
        assert (
            refused("compare", first, second)
            == f"{second}: not a run of picojoule (torn or edited?); run `evaluate --out` again"
        )
        if file == "report.json":
            assert refused("pareto", second) == (
                f"{second}/report.json: not a report of picojoule (torn or edited?); run `evaluate --out` again"
            )
        (second / file).write_text(whole)
    (second / "components.csv").write_text(TABLE + "a,b,energy,1,pJ,unheard.of,y\n")
    assert refused("compare", first, second) == (
        f"{second}/components.csv: priced by constant 'unheard.of', which this version does not have; run it again"
    )
    assert refused("pareto", first) == f"{first}/report.json: holds no accuracy; run `evaluate` with --accuracy --data"


POINTS = {
    "": "p.csv: is empty, expected a CSV table of results",
    "run,energy_pj_per_sample,accuracy\n": "no points to compare (p.csv); give folders made with `evaluate --accuracy --out`, "
    "or a CSV of results",
    "run,energy_pj_per_sample,accuracy\na,1,0.5\nb,x,0.5\n": "p.csv:3: 'energy_pj_per_sample' must be a number, got 'x'",
    "run,energy_pj_per_sample,accuracy\na,nan,0.5\n": "p.csv:2: 'energy_pj_per_sample' must be finite, got nan",
    "run,energy_pj_per_sample,accuracy\na,1\n": "p.csv:2: 'accuracy' must be a number, got None",
    "run,energy_pj,accuracy\na,1,0.5\n": "p.csv:2: has no 'energy_pj_per_sample'; did you mean 'energy_pj'?",
}


@pytest.mark.parametrize("text", POINTS, ids=lambda t: t[34:].strip() or "empty")
def test_bad_points(text: str, refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    assert refused("pareto", "p.csv") == POINTS[text]


def test_pareto(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    text = "variant,target,energy_pj_per_sample,accuracy_hardware\n=b,t,2,0.9\na,t,1,0.8\nc,t,3,0.85\n"
    (tmp_path / "p.csv").write_text(text)
    code, out, err = run("pareto", "p.csv", "--format", "json", "--out", "front")
    assert (code, err) == (0, "saved to front\n")
    assert [(r["run"], r["on_front"]) for r in document(out)] == [("a", True), ("=b", True), ("c", False)]
    assert (tmp_path / "front/pareto.png").read_bytes().startswith(b"\x89PNG")
    assert "\n'=b,t," in (tmp_path / "front/pareto.csv").read_text(), "spreadsheets run cells that start with ="


# --- interruptions, bugs, pipes -------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


def test_interrupted(refused: Callable[..., str], topology: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picojoule.evaluating.run_request", raising(KeyboardInterrupt()))
    assert refused("evaluate", topology, *EDGE, code=130) == "interrupted"


def test_bug_is_one_line(refused: Callable[..., str], topology: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picojoule.evaluating.run_request", raising(ZeroDivisionError("a\nb")))
    assert refused("evaluate", topology, *EDGE, code=1) == (
        "bug in picojoule: ZeroDivisionError: a b (run again with --debug for the traceback)"
    )
    with pytest.raises(ZeroDivisionError):
        cli._run(["evaluate", str(topology), *EDGE], True)


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    words = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_console_script(topology: Path, tmp_path: Path) -> None:
    made = shell("picojoule evaluate two.csv -H edge-16x16 --format json", tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert document(made.stdout)["network"]["name"] == "two"
    bad = shell("python -m picojoule evaluate two.csv -H edge-16x17", tmp_path)
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    debug = shell("picojoule evaluate two.csv --debug -H edge-16x17", tmp_path)
    assert debug.stdout == "" and debug.stderr.startswith("Traceback (most recent call last)")
    assert "picojoule.sim.errors.InputError: unknown hardware preset 'edge-16x17'" in debug.stderr


@pytest.mark.parametrize("form", ["json", "table"])
def test_reader_that_goes_away(form: str, topology: Path, tmp_path: Path) -> None:
    made = shell(f"(sleep 0.1; picojoule evaluate two.csv -H edge-16x16 --format {form}) | true", tmp_path)
    assert (made.returncode, made.stderr) == (0, "")


def test_version_and_help(run: Callable[..., tuple[int, str, str]]) -> None:
    from importlib.metadata import version

    assert run("--version") == (0, f"picojoule {version('picojoule')}\n", "")
    commands = ["evaluate", "coverage", "compare", "compress", "pareto", "presets", "methods", "validate", "doctor"]
    for words in ((), ("--help",), ("-h",)):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert all(f"  {c} " in out for c in commands) and "--debug" in out
    for command in commands:
        code, out, err = run(command, "--help")
        assert (code, err) == (0, "") and out.startswith(f"Usage: picojoule {command}")
