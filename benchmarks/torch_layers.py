"""Building blocks of the First Order Motion Model in plain PyTorch.

Tensors are float32 [b, c, h, w], with images in [0, 1] and coordinates (x, y) in [-1, 1]. Siarohin et al., "First
Order Motion Model for Image Animation", NeurIPS 2019, supplementary material; parameters named as in its checkpoints.
"""

import functools
import operator
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEYPOINT_VARIANCE = 0.01


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the coordinates (x, y) of the pixel centers, [height, width, 2], with the corners at -1 and 1."""
    y, x = (torch.linspace(-1, 1, size, dtype=like.dtype, device=like.device) for size in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def total(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of one or more tensors; unlike `sum`, it does not start from the number 0."""
    return functools.reduce(operator.add, terms)


def gaussians(position: Tensor, height: int, width: int) -> Tensor:
    """Return an unnormalized Gaussian around each position: [b, k, 2] -> [b, k, height, width]."""
    offset = coordinate_grid(height, width, position) - position[:, :, None, None]
    return torch.exp(-0.5 / KEYPOINT_VARIANCE * offset.square().sum(-1))


class AntiAliasDownsample(nn.Module):
    """Blurs with a fixed Gaussian and keeps every `1 / scale`-th pixel."""

    weight: Tensor

    def __init__(self, channels: int, scale: float):
        super().__init__()
        self.stride = int(1 / scale)
        if self.stride > 1:
            sigma = (1 / scale - 1) / 2
            radius = round(4 * sigma)
            bell = torch.exp(-torch.arange(-radius, radius + 1.0).square() / (2 * sigma**2))
            kernel = bell[:, None] * bell
            self.register_buffer("weight", (kernel / kernel.sum()).repeat(channels, 1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, c, h * scale, w * scale]."""
        if self.stride == 1:
            return image
        blurred = F.conv2d(image, self.weight, padding=self.weight.shape[-1] // 2, groups=image.shape[1])
        return blurred[:, :, :: self.stride, :: self.stride]


class ConvBlock(nn.Module):
    """Convolution, batch norm and ReLU, followed by 2x pooling (`down`) or preceded by 2x upsampling (`up`)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, resample: str = ""):
        super().__init__()
        self.resample = resample
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h', w']."""
        if self.resample == "up":
            x = F.interpolate(x, scale_factor=2.0)
        x = F.relu(self.norm(self.conv(x)))
        return F.avg_pool2d(x, 2) if self.resample == "down" else x


class ResidualBlock(nn.Module):
    """Two pre-activated 3x3 convolutions with an identity shortcut."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, c, h, w]."""
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class Hourglass(nn.Module):
    """Encoder and decoder with skip connections; the `outputs` output channels include those of the input."""

    def __init__(self, inputs: int, block_expansion: int, num_blocks: int, max_features: int):
        super().__init__()
        widths = [min(max_features, block_expansion * 2**level) for level in range(num_blocks + 1)]
        down = [inputs, *widths[1:]]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.down_blocks = nn.ModuleList(
            ConvBlock(down[i], down[i + 1], resample="down") for i in range(num_blocks)
        )
        self.decoder.up_blocks = nn.ModuleList(
            ConvBlock(widths[i + 1] * (1 if i == num_blocks - 1 else 2), widths[i], resample="up")
            for i in reversed(range(num_blocks))
        )
        self.outputs = block_expansion + inputs

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h, w]."""
        skips = []
        for block in self.encoder.get_submodule("down_blocks").children():
            skips.append(x)
            x = block(x)
        for block in self.decoder.get_submodule("up_blocks").children():
            x = torch.cat([block(x), skips.pop()], 1)
        return x
