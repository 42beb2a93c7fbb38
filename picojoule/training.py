"""Training and accuracy: short, seeded, on one thread. The same seed gives the same weights on the same machine.

Data are `models.data.Split`s. Inside `training_checkpoints.checkpoints` a training that was killed goes on where it was.
Left out: augmentation, several devices.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from picojoule.models.data import Split
from picojoule.sim.errors import InputError
from picojoule.training_checkpoints import TrainingState, checkpoint_of

Penalty = Callable[[], Tensor]
OnEpoch = Callable[[Mapping[str, float]], None]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    model: nn.Module,
    split: Split,
    *,
    epochs: int,
    lr: float,
    batch_size: int = 64,
    seed: int = 0,
    weight_decay: float = 0.0,
    optimizer: Literal["adam", "sgd"] = "adam",
    penalty: Penalty | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[dict[str, float], ...]:
    """Train in place with cross-entropy plus `penalty()`, learning rate falling as a cosine; the model ends in eval mode.

    Batches are drawn in an order that depends on `seed` only; torch's global random state is left as it was (dropout draws
    from a copy seeded with `seed`). `groups` are parameter groups for the optimiser (all parameters when not given).
    `on_epoch` sees every epoch's model in eval mode; a training that resumes shows it the finished epochs again.

    Returns:
        One record per epoch: epoch, loss (mean over samples, penalty included), lr.

    Raises:
        InputError: if there is no data, or the loss is no longer finite (the learning rate is too high).

    """
    if len(split) == 0:
        raise InputError("training needs at least one sample")
    generator = torch.Generator().manual_seed(seed)
    images, labels = torch.tensor(split.images), torch.tensor(split.labels)  # copies: a split's arrays are read-only
    made = _optimizer(optimizer, list(groups) if groups else list(model.parameters()), lr, weight_decay)
    settings = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "weight_decay": weight_decay}
    settings |= {"sgd": optimizer == "sgd", "penalty": penalty is not None}
    state = TrainingState(model=model, optimizer=made, generator=generator)
    kept = checkpoint_of(state, split, settings, every_epoch=on_epoch is not None)
    starts = [group["lr"] for group in made.param_groups]
    batches = math.ceil(len(labels) / batch_size)
    history: list[dict[str, float]] = []

    def end_epoch(record: dict[str, float]) -> None:
        if on_epoch is not None:
            model.eval()
            on_epoch(record)
            model.train()

    model.train()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for record in kept.finished() if kept else ():
            history.append(record)
            end_epoch(record)
        for epoch in range(len(history), epochs):
            order = torch.randperm(len(labels), generator=generator)
            total = 0.0
            for i, chosen in enumerate(torch.split(order, batch_size)):
                if len(chosen) == 1 and len(labels) > 1:
                    continue  # batch norm has no variance over one sample
                done = (epoch * batches + i) / (epochs * batches)
                for group, start in zip(made.param_groups, starts, strict=True):
                    group["lr"] = start * 0.5 * (1 + math.cos(math.pi * done))
                made.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
                if penalty is not None:
                    loss = loss + penalty()
                loss.backward()  # type: ignore[no-untyped-call]
                made.step()
                total += float(loss.detach()) * len(chosen)
            if not math.isfinite(total):
                raise InputError(
                    f"training diverged in epoch {epoch + 1}: the loss is not finite; lower lr (it is {lr})"
                )
            record = {"epoch": float(epoch + 1), "loss": total / len(labels), "lr": made.param_groups[0]["lr"]}
            history.append(record)
            if kept:
                kept.write(history)  # before `on_epoch`, which a resumed training calls again
            end_epoch(record)
    model.eval()
    return tuple(history)


def _optimizer(kind: str, parameters: list[Any], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def accuracy(model: Callable[[Tensor], Tensor], split: Split, batch_size: int = 256) -> tuple[int, int]:
    """Return (correct, samples) of the largest output; a module is evaluated in eval mode and its mode restored."""
    modes = {m: m.training for m in model.modules()} if isinstance(model, nn.Module) else {}
    if isinstance(model, nn.Module):
        model.eval()
    correct = 0
    try:
        with one_thread(), torch.no_grad():
            for start in range(0, len(split), batch_size):
                x = torch.tensor(split.images[start : start + batch_size])
                y = torch.tensor(split.labels[start : start + batch_size])
                correct += int((model(x).argmax(1) == y).sum())
    finally:
        for m, mode in modes.items():
            m.training = mode
    return correct, len(split)
