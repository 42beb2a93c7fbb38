"""Sound files of PyTorch to damage: state dicts (.pt, .safetensors) and exported programs (.pt2). Needs torch."""

import io
from functools import cache
from typing import Any

import torch
from safetensors.torch import save

from picojoule.models.zoo import build

NETWORK = "lenet5"


@cache
def network() -> torch.nn.Module:
    """Return the zoo network that checkpoints are for."""
    return build(NETWORK)


def state() -> dict[str, Any]:
    """Return a copy of its state dict."""
    return {k: v.detach().clone() for k, v in network().state_dict().items()}


def pt(value: Any, *, zipped: bool = True) -> bytes:
    """Return what torch.save writes."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


@cache
def checkpoints() -> tuple[bytes, ...]:
    """Return sound .pt files: zipped, old style, wrapped as trainers do, half precision."""
    own = state()
    half = {k: v.half() if v.is_floating_point() else v for k, v in own.items()}
    return (pt(own), pt(own, zipped=False), pt({"state_dict": own, "epoch": 3, "loss": 0.5}), pt(half))


@cache
def safetensors() -> bytes:
    """Return a sound .safetensors file."""
    return bytes(save(state(), metadata={"format": "pt"}))


class _Convolutions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.fc(x.reshape(x.shape[0], -1)[:, :64])


class _Attention(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = torch.nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 8)).unbind(-2)
        return torch.cat([torch.softmax(q @ k.mT / 2, -1) @ v, x.mean(1, keepdim=True).expand_as(x)], -1)


@cache
def programs() -> tuple[bytes, ...]:
    """Return sound .pt2 archives, their first axis open."""
    made = []
    for module, x in ((_Convolutions(), torch.randn(2, 3, 8, 8)), (_Attention(), torch.randn(2, 6, 8))):
        batch = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(module.eval(), (x,), dynamic_shapes=batch, strict=False)
        stream = io.BytesIO()
        torch.export.save(program, stream)
        made.append(stream.getvalue())
    return tuple(made)
