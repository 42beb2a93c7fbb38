"""Targets, loss and decoding of the center-point detector."""

import math

import pytest
import torch
from numpy.testing import assert_allclose

from picojoule.detection import SIZE_UNIT, decode, focal_loss, loss, make_targets

BOXES = torch.tensor([[[4.0, 8.0, 20.0, 16.0], [40.0, 40.0, 50.0, 62.0]], [[0.0, 0.0, 6.0, 6.0], [0.0, 0.0, 0.0, 0.0]]])
LABELS = torch.tensor([[1, 0], [2, -1]])


def targets():
    return make_targets(BOXES, LABELS, classes=3, cells=(16, 16), stride=4)


def perfect(found, sharpness=12.0):
    """Maps that say exactly what the targets are."""
    heat = (found.heat == 1).float() * 2 * sharpness - sharpness
    size, offset = torch.zeros(2, 2, 16, 16), torch.zeros(2, 2, 16, 16)
    for i in range(2):
        for k in range(2):
            if found.real[i, k]:
                row, col = divmod(int(found.cell[i, k]), 16)
                size[i, :, row, col], offset[i, :, row, col] = found.size[i, k], found.offset[i, k]
    return heat, size, offset


def test_targets_by_hand():
    found = targets()
    assert found.cell[0].tolist() == [3 * 16 + 3, 12 * 16 + 11]  # centers (12, 12) and (45, 51) over 4
    assert found.offset[0].tolist() == [[0.0, 0.0], [0.25, 0.75]]
    assert_allclose(found.size[0, 0].numpy(), [math.log(16 / SIZE_UNIT), math.log(8 / SIZE_UNIT)], rtol=1e-6)
    assert found.heat[0, 1, 3, 3] == 1
    assert (found.heat == 1).sum() == 3  # the box that is none left no mark
    assert found.heat[0, 1, 3, 4] > found.heat[0, 1, 4, 3]  # a wide box has a wide bump
    assert found.heat[1, 0].max() == 0


def test_perfect_maps_decode_to_the_boxes():
    found = targets()
    detections = decode(perfect(found), stride=4)
    for i in range(2):
        for k in range(2):
            if LABELS[i, k] < 0:
                continue
            label = int(LABELS[i, k])
            sure = (detections.scores[i] > 0.9) & (detections.labels[i] == label)
            assert sure.sum() == 1
            assert_allclose(detections.boxes[i][sure][0], BOXES[i, k].numpy(), atol=1e-4)


def test_perfect_maps_have_next_to_no_loss_and_any_error_raises_it():
    found = targets()
    heat, size, offset = perfect(found)
    least = loss((heat, size, offset), found)
    assert 0 <= float(least) < 0.01
    for wrong in ((-heat, size, offset), (heat, size + 0.1, offset), (heat, size, offset - 0.1)):
        assert loss(wrong, found) > least + 0.1


def test_loss_of_sizes_is_the_mean_over_boxes():
    found = targets()
    heat, size, offset = perfect(found, sharpness=50.0)
    assert float(loss((heat, size + 0.5, offset), found)) == pytest.approx(2 * 0.5, rel=1e-4)


def test_focal_loss_by_hand():
    logits, heat = torch.tensor([0.0, 0.0, math.log(3)]), torch.tensor([1.0, 0.5, 0.0])
    wanted = 0.25 * math.log(2) + 0.5**4 * 0.25 * math.log(2) + 0.75**2 * math.log(4)
    assert float(focal_loss(logits, heat)) == pytest.approx(wanted, rel=1e-5)


def test_scenes_without_boxes_have_a_finite_loss():
    found = make_targets(BOXES, torch.full_like(LABELS, -1), classes=3, cells=(16, 16), stride=4)
    value = loss((torch.full((2, 3, 16, 16), -30.0), torch.zeros(2, 2, 16, 16), torch.zeros(2, 2, 16, 16)), found)
    assert float(value) == pytest.approx(0, abs=1e-6)


def test_gradients_flow_to_all_maps():
    maps = tuple(torch.randn(2, c, 16, 16, requires_grad=True) for c in (3, 2, 2))
    loss(maps, targets()).backward()
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)


def test_a_plateau_next_to_a_peak_is_no_detection_and_boxes_stay_in_the_image():
    heat = torch.full((1, 1, 4, 4), -9.0)
    heat[0, 0, 1, 1], heat[0, 0, 1, 2] = 3.0, 2.0
    found = decode((heat, torch.full((1, 2, 4, 4), 9.0), torch.zeros(1, 2, 4, 4)), stride=4)
    assert (found.scores[0] > 0.5).sum() == 1
    assert found.boxes[0, 0].tolist() == [0.0, 0.0, 16.0, 16.0]
    suppressed = found.labels[0] == -1
    assert (found.scores[0][suppressed] == 0).all()
