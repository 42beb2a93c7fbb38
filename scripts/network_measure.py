"""Measures one network in a process of its own, for `network_table`; prints one JSON object.

Import time is CPU time from the file or module to the priced form, without importing torch or building the module, but
with what torch.export loads on its first use. Reference MACs are counted by others: for torch modules by torch's counter
of floating-point operations (unfused attention, so that it sees its products), for ONNX from the shapes that ONNX Runtime
reports for every tensor of the graph.
"""

import argparse
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import picojoule as pj
from picojoule.networks import TorchNetwork, load_torch, network_of, parse_shapes
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import PicojouleError
from picojoule.sim.evaluation import coverage_of
from picojoule.sim.gemm import gemm_view, network_macs
from picojoule.sim.ir import Network
from picojoule.sim.passes import fold_batch_norm

Found = dict[str, Any]


def described(network: Network) -> Found:
    """Return counts and coverage."""
    coverage = coverage_of(network)
    return {
        "macs": network_macs(network),
        "params": network.parameters,
        "layers": len(network.layers),
        "macs_priced": coverage.macs_priced,
        "bytes_priced": coverage.bytes_priced,
        "unsupported": [f"{u.op} at {u.where}: {u.reason}" for u in network.unsupported],
        "notes": list(network.notes),
    }


@contextlib.contextmanager
def stage(found: Found, name: str) -> Iterator[None]:
    """Keep a failure as one sentence under its stage; what was found before it stays."""
    try:
        yield
    except PicojouleError as error:
        found["failures"].append(f"{name}: {error}")
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        found["failures"].append(f"{name}: {type(error).__name__}: {first}")


def difference(got: Any, expected: Sequence[Any]) -> float:
    """Return the greatest difference of all outputs, relative to the greatest value of its output."""
    results = got if isinstance(got, tuple) else (got,)
    worst = 0.0
    for a, b in zip(results, expected, strict=True):
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        if a.shape != b.shape:
            raise ValueError(f"shapes {a.shape} and {b.shape} differ")
        if not np.isfinite(b).all():
            raise ValueError("the reference itself is not finite")
        worst = max(worst, float(np.abs(a - b).max() / (np.abs(b).max() or 1.0)))
    return worst


# --- torch ------------------------------------------------------------------------------------------------------------


def torch_macs(made: TorchNetwork) -> int:
    """Return half of the floating-point operations that torch's counter sees at batch 1."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    inputs = tuple(x[:1] for x in made.inputs)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        made.module(*inputs)
    return counter.get_total_flops() // 2


def cannot_run(network: Network) -> str:
    """Return why a network can be priced and not run, or an empty string."""
    if network.unsupported:
        return "no: operators that are not understood"
    held = [o.weights is not None for layer in network.layers for o in layer.parameters]
    return "" if all(held) else "no: shapes without values"


def measure_torch(spec: str, shape: Sequence[str], both: bool) -> Found:
    """Import, count, run and export a torch module."""
    import torch

    torch.backends.mha.set_fastpath_enabled(False)  # the fused encoder hides its products from the counter
    torch.backends.mkldnn.enabled = False  # as fused LSTM layers do
    made = load_torch(spec, shapes=parse_shapes(shape))
    found: Found = {"failures": [], "kind": "torch", "weights": made.weights}
    found["module_params"] = sum(p.numel() for p in made.module.parameters())
    with stage(found, "reference"):
        found["reference_macs"], found["reference"] = torch_macs(made), "torch's operation counter"
    torch.backends.mkldnn.enabled = True
    with stage(found, "import"):
        start = time.process_time()
        network = network_of(made)
        found["import_cpu_s"] = time.process_time() - start
        found |= described(network)
        if reason := cannot_run(network):
            return found | {"run": reason}
        one = tuple(x[:1] for x in made.inputs)
        two = tuple(torch.cat((x, x.flip(-1))) for x in one)
        fixed = all(r.type.batch_axis is None for r in network.inputs)
        found["run"] = "one batch size only" if fixed else "yes"
        for batch, inputs in ((1, one), (2, two))[: 1 if fixed else 2]:
            with stage(found, f"run at batch {batch}"), torch.no_grad():
                expected = made.module(*inputs)
                expected = expected if isinstance(expected, tuple) else (expected,)
                found[f"difference_batch_{batch}"] = difference(pj.run(network, list(inputs)), expected)
        if both:
            with stage(found, "through ONNX"):
                found["through_onnx"] = agreement(made, network)
    return found


def agreement(made: TorchNetwork, ours: Network) -> str:
    """Export the module to ONNX, import that, and compare MACs, order of layers, weights and results."""
    import torch

    batch = torch.export.Dim("batch")
    inputs = tuple(torch.cat((x, x.flip(-1))) if x.shape[0] == 1 else x for x in made.inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        try:
            with contextlib.redirect_stdout(sys.stderr):
                torch.onnx.export(
                    made.module,
                    inputs,
                    path,
                    dynamo=True,
                    verbose=False,
                    dynamic_shapes=tuple({0: batch} for _ in inputs),
                )
        except Exception as error:
            return f"torch cannot export it ({type(error).__name__})"
        theirs = pj.load(path)
        differ = []
        if network_macs(ours) != network_macs(theirs):
            differ.append(f"MACs ({network_macs(theirs)})")
        layers = [[y for y in n.layers if y.op in MAC_OPS] for n in (ours, theirs)]
        views = [[gemm_view(y) for y in n] for n in layers]
        if views[0] != views[1]:
            same = sorted(map(repr, views[0])) == sorted(map(repr, views[1]))
            differ.append("order of layers" if same else "GEMM views")
        weights = [sorted(checksums(n)) for n in layers]
        if len(weights[0]) != len(weights[1]) or not np.allclose(weights[0], weights[1], rtol=1e-4, atol=1e-4):
            differ.append("weights")
        fixed = all(r.type.batch_axis is None for r in theirs.inputs)  # some exports gather across samples
        given = [x[:1] for x in inputs] if fixed else list(inputs)
        with torch.no_grad():
            expected = made.module(*given)
            expected = expected if isinstance(expected, tuple) else (expected,)
        if (off := difference(pj.run(theirs, given), expected)) > 1e-4:
            differ.append(f"results ({off:.1e})")
    if differ:
        return f"differs: {', '.join(differ)}"
    return "same, for one batch size" if fixed else "same"


def checksums(layers: Sequence[Any]) -> Iterator[tuple[float, float]]:
    """Yield sum and sum of squares of each layer's weight: a transposed weight is the same weight."""
    for layer in layers:
        handle = layer.operands[1].weights
        if handle is not None:
            values = handle.array().astype(np.float64)
            yield float(values.sum()), float(np.square(values).sum())


# --- ONNX -------------------------------------------------------------------------------------------------------------


def onnx_macs(path: Path, feeds: dict[str, Any]) -> int:
    """Return the MACs of a graph from the shapes that ONNX Runtime computes for every tensor in it."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    heavy = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    wanted = dict.fromkeys(name for node in heavy for name in (*node.input[:2], node.output[0]))
    initial = {i.name: tuple(i.dims) for i in model.graph.initializer}
    shown = {o.name for o in model.graph.output} | set(feeds)
    model.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(n) for n in wanted if n not in initial and n not in shown
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    shapes = {name: value.shape for name, value in zip(names, session.run(names, feeds), strict=True)}
    shapes |= {name: np.shape(value) for name, value in feeds.items()} | initial
    total = 0
    for node in heavy:
        x, w, y = (shapes[name] for name in (*node.input[:2], node.output[0]))
        if node.op_type == "Conv":
            total += int(np.prod(y)) * int(np.prod(w[1:]))
        elif node.op_type == "ConvTranspose":
            total += int(np.prod(x)) * int(np.prod(w[1:]))
        else:
            first = next((a.i for a in node.attribute if a.name == "transA"), 0)
            total += int(np.prod(y)) * (x[0] if first else x[-1])
    return total


def measure_onnx(path: Path, shape: Sequence[str], page: bool) -> Found:
    """Import, count and run an ONNX file."""
    found: Found = {"failures": [], "kind": "onnx", "weights": "file"}
    with stage(found, "import"):
        from picojoule.sim.importers.onnx_graph import load_onnx

        start = time.process_time()
        network = fold_batch_norm(load_onnx(path, input_shapes=parse_shapes(shape)))
        found["import_cpu_s"] = time.process_time() - start
        assert "torch" not in sys.modules
        found |= described(network)
        if reason := cannot_run(network):
            return found | {"run": reason}
        found["run"] = "yes"
        with tempfile.TemporaryDirectory() as folder:
            other = redrawn(path, Path(folder))
            found["weights"] = "file" if other == path else "redrawn"
            run_onnx(found, other, network if other == path else pj.load(other, input_shape=shape), page)
    return found


def redrawn(path: Path, folder: Path) -> Path:
    """Return a copy of the file in which weights made by ConstantOfShape are random, or the file itself if none are.

    The light graphs hold one repeated number a tensor, so that all their outputs are the same: nothing could differ.
    """
    import onnx

    model = onnx.load(path)
    shapes = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    fills = [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.input[0] in shapes]
    if not fills:
        return path
    rng = np.random.default_rng(0)
    for node in fills:
        size = tuple(int(s) for s in shapes[node.input[0]])
        fan_in = int(np.prod(size[1:])) if len(size) > 1 else 0
        spread = rng.standard_normal(size) * (2 / fan_in) ** 0.5 if fan_in else rng.uniform(0.5, 1.5, size)
        model.graph.initializer.append(onnx.numpy_helper.from_array(spread.astype(np.float32), node.output[0]))
        model.graph.node.remove(node)
    for value in model.graph.output:  # a softmax over large random logits is 0 or 1, whatever came before
        last = next(n for n in model.graph.node if value.name in n.output)
        value.name = last.input[0] if last.op_type == "Softmax" else value.name
    onnx.save(model, folder / path.name)
    return folder / path.name


def drawn(shape: tuple[int, ...], shift: int) -> Any:
    """Return an image [1, 3, h, w] like a page: lines of dark bars on white, in -1 to 1."""
    page = np.ones(shape, dtype=np.float32)
    for top in range(20 + shift, shape[2] - 20, 40):
        page[:, :, top : top + 16, 30:-30:5] = -1
        page[:, :, top : top + 16 : 7, 30:-30] = -1
    return page


def run_onnx(found: Found, path: Path, network: Network, page: bool) -> None:
    """Compare with ONNX Runtime, which runs one sample at a time: many files fix their batch."""
    import onnxruntime

    rng = np.random.default_rng(0)
    samples = [[rng.standard_normal(r.shape).astype(np.float32) for r in network.inputs] for _ in range(2)]
    if page:
        samples = [[drawn(r.shape, 7 * i) for r in network.inputs] for i in range(2)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    named = [dict(zip([r.name for r in network.inputs], values, strict=True)) for values in samples]
    names = {i.name for i in session.get_inputs()}
    feeds = [{k: v for k, v in one.items() if k in names} for one in named]
    with stage(found, "reference"):
        found["reference_macs"], found["reference"] = onnx_macs(path, feeds[0]), "ONNX Runtime's shapes"
    expected = [session.run(None, f) for f in feeds]
    with stage(found, "run at batch 1"):
        found["difference_batch_1"] = difference(pj.run(network, samples[0]), expected[0])
    with stage(found, "run at batch 2"):
        both = [np.concatenate(pair) for pair in zip(*samples, strict=True)]
        together = [np.concatenate(pair) for pair in zip(*expected, strict=True)]
        found["difference_batch_2"] = difference(pj.run(network, both), together)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help="what pj.load takes")
    parser.add_argument("--input-shape", action="append", default=[])
    parser.add_argument("--page", action="store_true", help="feed an ONNX file a page of bars instead of noise")
    parser.add_argument("--both", action="store_true", help="send torch modules through ONNX as well")
    given = parser.parse_args()
    if given.network.endswith(".onnx"):
        found = measure_onnx(Path(given.network), given.input_shape, given.page)
    else:
        found = measure_torch(given.network, given.input_shape, given.both)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
