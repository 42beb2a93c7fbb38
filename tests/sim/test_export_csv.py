"""Networks as SCALE-Sim topologies: every layer keeps its multiply-accumulates, and what is lost is said."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import picojoule as pj
from picojoule.models.catalog import names as zoo_names
from picojoule.sim import attributes as at
from picojoule.sim.attributes import MAC_OPS, Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.formats import parse_sparsity
from picojoule.sim.gemm import gemm_view, layer_macs
from picojoule.sim.importers.scalesim_csv import load_csv
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.weights import from_array

SMALL = ("lenet5", "mlp-784-100-10", "dscnn-fashion", "resnet20")


def macs_by_layer(network: Network) -> dict[str, int]:
    return {y.name: layer_macs(y) for y in network.layers if y.op in MAC_OPS}


CNNS = tuple(n for n in zoo_names() if n not in ("llama-7b", "gpt2", "bert-base"))


def check_topology(network: Network, folder: Path) -> tuple[str, ...]:
    path = folder / "net.csv"
    notes = pj.export(network, path).notes
    rows: dict[str, list[int]] = {}
    for layer in load_csv(path).layers:
        rows.setdefault(layer.name, []).append(layer_macs(layer))
    counts = iter(rows.values())
    for layer in network.layers:
        if layer.op in MAC_OPS:
            view = gemm_view(layer)
            assert view is not None
            total, repeats = 0, 0
            while total < view.macs:
                total, repeats = total + next(counts)[0], repeats + 1
            assert total == view.macs, layer.name
    assert not list(counts)
    return notes


@pytest.mark.parametrize("name", [n for n in CNNS if n in SMALL])
def test_a_topology_has_the_macs_of_every_layer(name: str, tmp_path: Path) -> None:
    check_topology(pj.load(name), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n in CNNS if n not in SMALL])
def test_a_topology_of_a_larger_network_has_the_macs_of_every_layer(name: str, tmp_path: Path) -> None:
    check_topology(pj.load(name), tmp_path)


def test_a_topology_keeps_names_and_costs_the_same_cycles(tmp_path: Path) -> None:
    network = pj.load("resnet20")
    check_topology(network, tmp_path)
    found = load_csv(tmp_path / "net.csv")
    assert {y.name: layer_macs(y) for y in found.layers} == macs_by_layer(network)
    assert found.notes == ()  # no window hangs over the edge
    ours, theirs = (pj.evaluate(n, "edge-16x16").to_dict()["layers"] for n in (network, found))
    on_array = {r["name"]: r["compute_cycles"] for r in ours if r["macs"]}
    assert {r["name"]: r["compute_cycles"] for r in theirs} == on_array


def odd_layers() -> Network:
    """Return layers that a row cannot say as they are."""
    builder = NetworkBuilder("odd")
    g = np.random.default_rng(0)

    def conv(name: str, shape: tuple[int, ...], weight: tuple[int, ...], **changes: Any) -> Any:
        ones = (1,) * (len(shape) - 2)
        given = {"stride": ones, "padding_begin": (0,) * len(ones), "padding_end": ones, "dilation": ones} | changes
        x = builder.input(f"{name}.x", TensorType(shape=shape, batch_axis=0))
        w = parameter(f"{name}.w", from_array(g.normal(size=weight).astype(np.float32)))
        if name == "masked":
            w = replace(w, sparsity=parse_sparsity("unstructured", 0.5))
        if name == "n of m":
            w = replace(w, sparsity=parse_sparsity("2:4"))
        return builder.add(Op.CONV, [x, w], at.ConvAttributes(**given), name=name)[0]

    outs = [
        conv("line", (1, 4, 9), (6, 4, 3), stride=(2,)),
        conv("volume", (1, 2, 4, 4, 4), (3, 2, 3, 3, 3)),
        conv("uneven", (1, 4, 9, 9), (6, 4, 3, 3), stride=(2, 1)),
        conv("dilated", (1, 4, 9, 9), (6, 4, 3, 3), dilation=(2, 2)),
        conv("grouped", (1, 4, 9, 9), (6, 2, 3, 3), groups=2),
        conv("a, DP layer", (1, 4, 9, 9), (6, 4, 3, 3)),
        conv("depth", (1, 4, 9, 9), (8, 1, 3, 3), groups=4, stride=(2, 2)),
        conv("up", (1, 4, 5, 5), (4, 3, 3, 3), transposed=True, stride=(2, 2)),
        conv("masked", (1, 4, 9, 9), (6, 4, 3, 3)),
        conv("n of m", (1, 4, 9, 9), (6, 4, 3, 3)),
    ]
    a, b = (builder.input(n, TensorType(shape=(1, 2, 3, 4), batch_axis=0)) for n in ("a", "b"))
    turned = builder.add(Op.TRANSPOSE, [b], at.TransposeAttributes(permutation=(0, 1, 3, 2)), name="turn")[0]
    outs += builder.add(Op.MATMUL, [a, turned], at.MatmulAttributes(), name="product")
    outs += builder.opaque("Wobble", [a], [a.type], name="wobble")
    return builder.finish(outs)


def test_what_a_topology_cannot_say_is_said(tmp_path: Path) -> None:
    notes = check_topology(odd_layers(), tmp_path)
    assert notes == (
        "left out, as a topology holds multiply-accumulates only: 1 opaque, 1 transpose",
        "left out, not understood (their multiply-accumulates are missing): Wobble at wobble",
        "written as a matrix product: volume, uneven, up",
        "dilated: written as if the taps lay side by side: dilated",
        "a row per group: grouped",
        "a row per product: product",
        "depthwise layers carry 'DP' in their names, as SCALE-Sim knows them: depth_DP",
        "renamed: a, DP layer is a_Dp_layer, n of m is n_of_m",
        "zeros that are not N:M are not written: masked",
    )
    text = (tmp_path / "net.csv").read_text().splitlines()
    assert text[0] == (
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides, Sparsity,"
    )
    assert "depth_DP, 9, 9, 3, 3, 4, 2, 2, 1:1," in text
    assert "line, 9, 1, 3, 1, 4, 6, 2, 1:1," in text
    assert text.count("grouped, 10, 10, 3, 3, 2, 3, 1, 1:1,") == 2
    assert "n_of_m, 10, 10, 3, 3, 4, 6, 1, 2:4," in text


def test_products_alone_are_written_as_m_n_k(tmp_path: Path) -> None:
    network = pj.load("mlp-784-100-10")
    assert pj.export(network, tmp_path / "net.csv").notes == (
        "left out, as a topology holds multiply-accumulates only: 1 activation, 1 reshape",
    )
    assert (tmp_path / "net.csv").read_text() == "Layer, M, N, K,\nfc1, 1, 100, 784,\nfc2, 1, 10, 100,\n"


def test_steps_of_a_recurrent_layer_are_rows(examples_of: Callable[[type[Any]], list[Network]], tmp_path: Path) -> None:
    lstm = examples_of(at.RecurrentAttributes)[0]
    notes = check_topology(lstm, tmp_path)
    assert notes == ("recurrent: a row per step, which must wait for the step before: layer",)
    assert (tmp_path / "net.csv").read_text().count("layer, 1, 12, 3,") == 5


def test_a_network_without_products_has_no_topology(
    examples_of: Callable[[type[Any]], list[Network]], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        pj.export(examples_of(at.SoftmaxAttributes)[0], tmp_path / "net.csv")
    assert str(caught.value) == (
        "softmax example has no multiply-accumulate layer, and a topology CSV holds nothing else"
    )
