"""CoDeNet has its published size, its published work and the published calls of the accelerator; d = 1 is a plain layer."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.models import catalog, codenet, zoo
from picojoule.sim.attributes import MAC_OPS, Op
from picojoule.sim.gemm import layer_macs
from picojoule.sim.ir import Network
from picojoule.sim.numerics.deform_module import DeformConv2d

# Side of the image, doubled widths, max pooling: table 3 of the paper.
CONFIGURATIONS = {
    "a": (256, False, False),
    "b": (256, False, True),
    "c": (512, False, False),
    "d": (512, True, False),
    "e": (512, True, True),
}


def shapes_of(letter: str, *, trained: bool, classes: int) -> codenet.CoDeNet:
    side, double, max_pool = CONFIGURATIONS[letter]
    form = codenet.TRAINED if trained else codenet.BOARD
    with torch.device("meta"):
        made = codenet.CoDeNet((3, side, side), classes, form=form, double=double, max_pool=max_pool)
    return made.eval()


def counted(module: nn.Module, side: int) -> dict[str, int]:
    """Return MACs and elements written by kind of layer, from the shapes that the layers themselves see."""
    found = dict.fromkeys(("plain", "deformable", "norm"), 0)

    def seen(part: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        if isinstance(part, nn.Conv2d):
            found["plain"] += y.numel() * part.weight[0].numel()
        elif isinstance(part, DeformConv2d):
            found["deformable"] += y.numel() * part.weight[0].numel()
        elif isinstance(part, nn.BatchNorm2d):
            found["norm"] += y.numel()

    hooks = [part.register_forward_hook(seen) for part in module.modules()]
    with torch.no_grad():
        module(torch.empty(1, 3, side, side, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def work_of_calls(side: int, widths: tuple[int, ...]) -> list[int]:
    """Return MACs of the layers on the accelerator in the order of the published calls, without padding to 16."""
    work: list[int] = []

    def call(side: int, inputs: int, outputs: int, *, pointwise: bool, window: bool, stride: int = 1) -> None:
        work.extend([side**2 * inputs * outputs] if pointwise else [])
        work.extend([(side // stride) ** 2 * 9 * outputs] if window else [])

    channels = widths[0]
    for width, repeats in zip(widths[1:4], (3, 7, 3), strict=True):
        half = width // 2
        call(side, channels, channels, pointwise=False, window=True, stride=2)
        call(side // 2, channels, half, pointwise=True, window=False)
        call(side, channels, half, pointwise=True, window=True, stride=2)
        call(side // 2, half, half, pointwise=True, window=False)
        side, channels = side // 2, width
        for _ in range(repeats):
            call(side, half, half, pointwise=True, window=True)
            call(side, half, half, pointwise=True, window=False)
    call(side, widths[3], widths[4], pointwise=True, window=False)
    channels = widths[4]
    for width in (256, 128, 128):
        call(side, channels, 1, pointwise=True, window=False)
        call(side, channels, channels, pointwise=False, window=True)
        if channels != width:
            call(side, channels, width, pointwise=True, window=False)
        side, channels = 2 * side, width
    for width in (80, 2, 2):
        call(side, channels, width, pointwise=True, window=True)
    return work


WIDTHS = {False: (32, 128, 256, 512, 1024), True: (32, 256, 512, 1024, 2048)}


@pytest.mark.parametrize(
    ("letter", "published_mib", "published_mib_of_4_bits", "published_gmacs"),
    [("a", 6.06, 0.76, 0.29), ("b", 6.06, 0.76, 0.29), ("c", 6.06, 0.76, 1.14), ("d", 23.2, 2.90, 3.54), ("e", 23.2, 2.90, 3.58)],
)  # fmt: skip
def test_the_trained_form_has_its_published_size_and_macs(
    letter: str, published_mib: float, published_mib_of_4_bits: float, published_gmacs: float
) -> None:
    module = shapes_of(letter, trained=True, classes=20)
    mib = sum(p.numel() for p in module.parameters()) * 4 / 2**20
    assert mib == pytest.approx(published_mib, abs=0.005)
    assert mib / 8 == pytest.approx(published_mib_of_4_bits, abs=0.005)
    parts = counted(module, CONFIGURATIONS[letter][0])
    as_thop_counts = parts["plain"] + 2 * parts["norm"]  # deformable layers are unknown to it
    assert as_thop_counts / 1e9 == pytest.approx(published_gmacs, abs=0.006)


def test_the_trained_form_for_80_classes_has_its_published_size_and_macs() -> None:
    with torch.device("meta"):
        module = codenet.trained(classes=80, max_pool=True).eval()
    assert sum(p.numel() for p in module.parameters()) * 4 / 2**20 == pytest.approx(6.07, abs=0.005)
    parts = counted(module, 512)
    assert (parts["plain"] + 2 * parts["norm"]) / 1e9 == pytest.approx(1.24, abs=0.005)


@pytest.mark.parametrize("letter", CONFIGURATIONS)
def test_the_network_has_the_work_of_the_published_calls(letter: str) -> None:
    side, double, _ = CONFIGURATIONS[letter]
    work = work_of_calls(side // 4, WIDTHS[double])
    module = shapes_of(letter, trained=False, classes=80)
    parts = counted(module, side)
    first = counted(module.first, side)["plain"]
    assert parts["plain"] + parts["deformable"] - first == sum(work)
    assert catalog.find(f"codenet-{letter}").macs == sum(work) + first


def test_what_the_board_recorded() -> None:
    recorded = {"a": 0.573, "c": 2.292, "d": 6.641}  # G operations
    missing = {}
    for letter, gops in recorded.items():
        side, double, _ = CONFIGURATIONS[letter]
        heads = 2 * 2 * 128 * 2 * (side // 4) ** 2  # two 1x1 layers from 128 to 2 channels
        missing[letter] = (2 * sum(work_of_calls(side // 4, WIDTHS[double])) - heads) / 1e9 - gops
    assert abs(missing["a"]) < 0.0005 and abs(missing["c"]) < 0.0005
    assert missing["d"] == pytest.approx(0.651, abs=0.001)  # known, and not explained


def test_sampling_starts_at_the_ordinary_grid_and_offsets_matter() -> None:
    module = zoo_module(64)
    block = module.decoder[0]
    sampled = block[0]
    assert isinstance(sampled, DeformConv2d)
    x = torch.randn(1, 1024, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = nn.functional.conv2d(x, sampled.weight, padding=1, groups=1024)
        torch.testing.assert_close(sampled(x), plain)
        with_offsets(module)
        assert not torch.allclose(sampled(x), plain, atol=1e-2)
        offsets = sampled.offsets(x)
    assert offsets.shape == (1, 18, 4, 4)
    assert torch.equal(offsets, offsets.round())
    assert (offsets.min(), offsets.max()) == (-6, 6)  # d from 0 to the bound of 7, less the tap's own step


def zoo_module(side: int) -> codenet.CoDeNet:
    made = zoo.build("codenet-a", input_shape=(3, side, side))
    assert isinstance(made, codenet.CoDeNet)
    return made


def with_offsets(module: nn.Module) -> nn.Module:
    """Give the offset layers weights, so that d varies between pixels and meets its bound."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, DeformConv2d):
            weight = part.offset_conv.weight
            with torch.no_grad():
                weight.copy_(torch.randn(weight.shape, generator=generator) * 8 / weight.numel() ** 0.5)
    return module


def traced(side: int) -> tuple[Network, nn.Module, Tensor]:
    module = with_offsets(zoo_module(side))
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    return pj.trace(module, (x,)), module, x


def macs_by_layer(network: Network) -> list[int]:
    return [layer_macs(y) for y in network.layers if y.op in MAC_OPS]


def check_through_onnx(side: int, folder: Path) -> None:
    network, module, x = traced(side)
    path = folder / "codenet.onnx"
    pj.export(network, path)
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = runtime.run(None, {runtime.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = module(x)
    for ours, theirs in zip(expected, found, strict=True):
        difference = np.abs(ours.numpy() - theirs)
        assert difference.max() <= 1e-4 * np.abs(ours.numpy()).max()
    again = pj.load(path)
    assert sum(y.op is Op.DEFORM_CONV for y in again.layers) == 3
    assert macs_by_layer(again) == macs_by_layer(network)
    reports = [pj.evaluate(n, "edge-16x16").to_dict() for n in (network, again)]
    for report in reports:
        assert report["complete"] and report["coverage"]["macs_priced"] == 1
        assert sum(y["op"] == "deform_conv" and y["latency_s"] > 0 for y in report["layers"]) == 3
    ours, theirs = (report["totals"] for report in reports)
    assert (ours["latency_cycles"], ours["macs"]) == (theirs["latency_cycles"], theirs["macs"])
    assert ours["energy_pj"] == pytest.approx(theirs["energy_pj"], rel=1e-9)
    assert theirs["weight_bytes"] - ours["weight_bytes"] == 3 * 18  # a file does not tell the grid of taps from weights


def test_an_export_comes_back_with_the_same_cost_and_the_same_maps(tmp_path: Path) -> None:
    check_through_onnx(64, tmp_path)


@pytest.mark.full
def test_a_full_size_export_comes_back_with_the_same_cost_and_the_same_maps(tmp_path: Path) -> None:
    check_through_onnx(256, tmp_path)


def test_maps_are_a_quarter_of_an_oblong_grey_image() -> None:
    module = zoo.build("codenet-b", input_shape=(1, 32, 96), classes=3)
    with torch.no_grad():
        maps = module(*zoo.example_inputs("codenet-b", input_shape=(1, 32, 96)))
    assert [tuple(y.shape) for y in maps] == [(2, 3, 8, 24), (2, 2, 8, 24), (2, 2, 8, 24)]
    assert all(y.isfinite().all() for y in maps)
