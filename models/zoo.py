"""Builds the reference networks of `catalog`: plain modules, seeded, in eval mode, untrained.

The weights are random, so figures that depend on data are about these random weights until the network is trained. A
network that `catalog` marks `shapes_only` lives on torch's meta device: shapes without values.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from picojoule.models import (
    catalog,
    centre_net,
    classic,
    codenet,
    convnext,
    decoder,
    dense_prediction,
    mobile,
    mobile_gated,
    resnet,
    sequence,
    transformer,
    vision_transformer,
)
from picojoule.models.catalog import describe, names
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.deform_module import DeformConv2d

__all__ = ["build", "example_inputs", "names", "describe"]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": classic.LeNet5,
    "mlp-784-100-10": classic.Perceptron,
    "dscnn-fashion": mobile.dscnn_fashion,
    "dscnn-fashion-deform": mobile.dscnn_fashion_deform,
    "mobilenetv2-fashion": mobile.mobilenetv2_fashion,
    "resnet20": resnet.resnet20,
    "vgg11-cifar": classic.vgg11_cifar,
    "vgg8-cifar": classic.Vgg8,
    "mobilenet-v1": mobile.mobilenet_v1,
    "mobilenet-v2": mobile.mobilenet_v2,
    "shufflenet-v2": mobile.shufflenet_v2,
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "mobilenet-v3-small": mobile_gated.mobilenet_v3_small,
    "efficientnet-b0": mobile_gated.efficientnet_b0,
    "convnext-tiny": convnext.convnext_tiny,
    "vit-tiny": vision_transformer.vit_tiny,
    "unet": dense_prediction.unet,
    "yolov3-tiny": dense_prediction.yolov3_tiny,
    "centre-net": centre_net.centre_net,
    "codenet-a": codenet.codenet(double=False, max_pool=False),
    "codenet-b": codenet.codenet(double=False, max_pool=True),
    "codenet-c": codenet.codenet(double=False, max_pool=False),
    "codenet-d": codenet.codenet(double=True, max_pool=False),
    "codenet-e": codenet.codenet(double=True, max_pool=True),
    "pointnet": sequence.pointnet,
    "lstm-tagger": sequence.lstm_tagger,
    "bert-base": transformer.bert_base,
    "gpt2": decoder.gpt2,
    "llama-7b": decoder.llama_7b,
}
_NARROW = frozenset({"bert-base", "gpt2", "vit-tiny"})
"""Transformers, whose linear layers and embeddings start from N(0, 0.02)."""


def build(
    name: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a reference network in eval mode, with random weights that depend on `seed` only.

    `input_shape` is one sample, (channels, height, width), (channels, points) or (tokens,); it and `classes` default to
    the published ones; `arguments` go to the network's builder (`builder_parameters`). The global random state of torch
    is left as it was. Convolutions start from He's normal distribution over their inputs (He et al. 2015), so that
    activations neither vanish nor explode before training; linear layers and embeddings of transformers from N(0, 0.02)
    (Devlin et al. 2019); everything else as torch does.

    Raises InputError for an unknown name (with the nearest one) and for sizes the network cannot take.
    """
    shape = catalog.checked_shape(name, input_shape)
    class_count = catalog.checked_classes(name, classes)
    seed = _checked_seed(seed)
    more = dict(arguments or {})
    if catalog.find(name).shapes_only:
        with torch.device("meta"):
            return _BUILDERS[name](shape, class_count, **more).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        module = _BUILDERS[name](shape, class_count, **more)
        offset_layers = {id(x) for part in module.modules() if isinstance(part, DeformConv2d) for x in part.children()}
        for part in module.modules():
            if id(part) not in offset_layers:  # they start at the ordinary grid
                _initialise(part, narrow=name in _NARROW)
    return module.eval()


def example_inputs(
    name: str, *, input_shape: tuple[int, ...] | None = None, batch: int = 2, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Return the positional inputs of one call: standard normal values, uniformly random tokens, or shapes only.

    `input_shape` is one sample as in `build`; errors are those of `build`, and InputError for a batch below 1.
    """
    shape = catalog.checked_shape(name, input_shape)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError(f"{name}: batch must be a whole number of at least 1, got {batch!r}")
    generator = torch.Generator().manual_seed(_checked_seed(seed))
    entry = catalog.find(name)
    if entry.vocabulary is not None:
        tokens = torch.randint(entry.vocabulary, (batch, *shape), generator=generator)
        return (tokens.to("meta") if entry.shapes_only else tokens,)
    return (torch.randn(batch, *shape, generator=generator),)


def builder_parameters(name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a network's builder besides the sample's shape and the classes."""
    catalog.find(name)
    return dict(list(inspect.signature(_BUILDERS[name]).parameters.items())[2:])


def _initialise(part: nn.Module, *, narrow: bool) -> None:
    """Draw again what torch's default does not suit."""
    if isinstance(part, nn.Conv1d | nn.Conv2d | DeformConv2d):
        nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
    elif narrow and isinstance(part, nn.Linear | nn.Embedding):
        nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number between 0 and 2**63 - 1, got {seed!r}")
    return seed
