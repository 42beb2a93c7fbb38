"""Training helpers: seeded, private randomness, honest failures."""

import numpy as np
import pytest
import torch
from torch import nn

from picojoule.models.data import Split
from picojoule.sim.errors import InputError
from picojoule.training import accuracy, train


def two_classes(count: int = 80) -> Split:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    images = rng.normal(size=(count, 1, 2, 2)).astype(np.float32) + 4 * labels[:, None, None, None].astype(np.float32)
    return Split(images=images, labels=labels)


def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_learns_is_repeatable_and_leaves_global_randomness_alone(optimizer: str) -> None:
    split, made = two_classes(), [model(), model()]
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    histories = [train(m, split, epochs=6, lr=2e-2, batch_size=16, seed=3, optimizer=optimizer) for m in made]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert histories[0] == histories[1]
    assert all(torch.equal(a, b) for a, b in zip(made[0].parameters(), made[1].parameters(), strict=True))
    assert histories[0][-1]["loss"] < histories[0][0]["loss"]
    assert not made[0].training
    correct, count = accuracy(made[0], split)
    assert (count, correct > 72) == (80, True)


def test_the_penalty_is_part_of_the_loss() -> None:
    split, plain, pressed = two_classes(), model(), model()
    train(plain, split, epochs=20, lr=2e-2)
    train(pressed, split, epochs=20, lr=2e-2, penalty=lambda: 10 * pressed[1].weight.abs().sum())
    assert float(pressed[1].weight.detach().abs().sum()) < 0.5 * float(plain[1].weight.detach().abs().sum())


def test_accuracy_counts_and_restores_the_mode() -> None:
    split = Split(images=np.zeros((5, 1, 2, 2), dtype=np.float32), labels=np.array([0, 1, 1, 0, 1]))
    made = model().train()
    assert accuracy(lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), split, batch_size=2) == (3, 5)
    accuracy(made, split)
    assert made.training


def test_no_data_and_divergence_are_refused() -> None:
    empty = Split(images=np.zeros((0, 1, 2, 2), dtype=np.float32), labels=np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError, match="training needs at least one sample"):
        train(model(), empty, epochs=1, lr=0.1)
    with pytest.raises(
        InputError, match=r"training diverged in epoch \d: the loss is not finite; lower lr \(it is 1e\+25\)"
    ):
        train(model(), two_classes(), epochs=3, lr=1e25, optimizer="sgd")
