"""Random offsets of a variant's form, and how often its bound cuts. Prices of trained points: `test_reproduce_deform`."""

import numpy as np
import pytest
from safetensors.torch import save_file

from picojoule import deform_pricing, deform_quantized
from picojoule.deform_points import Point
from picojoule.models.centre_net import build
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.offset_traces import OffsetTrace


def test_random_offsets_keep_the_form():
    model = build("square_round", width=0.5)
    network = deform_quantized.network_of(model)
    names = [layer.name for layer in network.layers if layer.op is Op.DEFORM_CONV]
    zero = OffsetTrace(offsets={n: np.zeros((3, 18, 16, 16), dtype=np.int16) for n in names})
    drawn = deform_pricing.random_trace(network, zero, Point(variant="square_round", bound=3.0))
    for values in drawn.offsets.values():
        pairs = values.reshape(3, 3, 3, 2, 16, 16)
        d = pairs[:, 2, 2, 0] + 1  # the lower right tap moves by d - 1 both ways
        assert set(np.unique(d)) == {0, 1, 2, 3}
        assert np.array_equal(pairs[:, 0, 2, 0], 1 - d) and np.array_equal(pairs[:, 0, 2, 1], d - 1)
        assert not pairs[:, 1, 1].any()
    bound = deform_pricing.random_trace(network, zero, Point(variant="deform_bound", bound=3.0))
    assert {(int(v.min()), int(v.max())) for v in bound.offsets.values()} == {(-2, 2)}


def test_clipped_offsets_are_counted_before_the_clip(tmp_path):
    """A bias beyond the bound in one of 18 channels: one offset in 18 is cut there."""
    point = Point(variant="deform_bound", width=0.5, bound=3.0)
    model = build(point.variant, width=0.5, bound=3.0)
    for value, wanted in ((1.99, 0.0), (2.01, 1 / 18), (-2.01, 1 / 18)):
        for slot in model.slots:
            slot[0].offset_conv.bias.data[5] = value  # offsets lie within N - 1 = 2
        (tmp_path / "points").mkdir(exist_ok=True)
        save_file(model.state_dict(), tmp_path / "points" / f"{point.name}.safetensors")
        assert deform_pricing.clipped_share(tmp_path, point) == pytest.approx(wanted)
    square = Point(variant="square_round", width=0.5, bound=3.0)
    for value, wanted in ((0.01, 0.0), (2.99, 0.0), (3.01, 1.0), (-0.01, 1.0)):
        model = build(square.variant, width=0.5, bound=3.0)
        for slot in model.slots:
            slot[0].offset_conv.bias.data[:] = value  # d lies within 0 and N
        save_file(model.state_dict(), tmp_path / "points" / f"{square.name}.safetensors")
        assert deform_pricing.clipped_share(tmp_path, square) == wanted
    with pytest.raises(InputError, match="deform_free-w1-n7-s0: has no bound, so nothing is clipped"):
        deform_pricing.clipped_share(tmp_path, Point(variant="deform_free"))
