"""In-betweening by 3D convolutions in plain PyTorch, as a reference for timings.

Input: weights named as in `vidcomp_jax.inbetween.Inbetween`, clips [b, c, t, h, w] in [0, 1] and noise [b, n].
Output: the losses of a training step. The data layout is PyTorch's own, channels first.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vidcomp_jax.inbetween.losses import InbetweenLossConfig
from vidcomp_jax.inbetween.networks import InbetweenConfig

DISCRIMINATORS = ("video_discriminator", "image_discriminator")


class Encoder(nn.Module):
    """Encodes frames [b, c, h, w] as features [b, width, h / 8, w / 8]."""

    def __init__(self, config: InbetweenConfig):
        super().__init__()
        w = config.width
        widths = [config.num_channels, w, w, 2 * w, 2 * w, 4 * w, 4 * w]
        blocks = [_encode(a, b, *((4, 2) if i % 2 == 0 else (3, 1))) for i, (a, b) in enumerate(_pairs(widths))]
        self.blocks = nn.ModuleList(blocks)
        self.head = _encode(4 * w, w, 3, 1)

    def forward(self, x):
        """Return the features of frames [b, c, h, w]."""
        for block in [*self.blocks, self.head]:
            x = F.relu(block["norm"](block["conv"](x)))
        return x


class Stage(nn.Module):
    """One stage of the latent video [b, c, t, h, w]."""

    def __init__(self, config: InbetweenConfig, num_frames: int):
        super().__init__()
        w = config.width
        self.num_frames = num_frames
        self.linear = nn.Linear(config.noise_size, num_frames * w)
        self.mix = nn.Conv1d(w, 3 * w, 3, padding=1)
        self.first = nn.Conv3d(w, w, 3, padding=1)
        self.second = nn.Conv3d(w, w, 3, padding=1)

    def forward(self, start, end, z, noise):
        """Mix the encoded end frames into the latent video `z`, and refine the result."""
        x = self.linear(noise).reshape(len(noise), self.num_frames, -1).transpose(1, 2)
        gates = self.mix(x)[..., None, None].chunk(3, dim=1)
        start_gate, end_gate, additive = gates[0].sigmoid(), gates[1].sigmoid(), gates[2]
        keep = (1 - start_gate - end_gate).clamp(min=0)
        z = start_gate * start[:, :, None] + end_gate * end[:, :, None] + keep * z + additive
        return F.leaky_relu(z + self.second(F.leaky_relu(self.first(z), 0.2)), 0.2)


class DecoderBlock(nn.Module):
    """Convolution, batch norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, upsample: bool):
        super().__init__()
        self.conv = _decode(inputs, outputs, upsample)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x):
        """Return the features, at twice the height and width if upsampling."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class Generator(nn.Module):
    """Generates clips [b, c, t, h, w] from first and last frames [b, c, h, w] and noise."""

    def __init__(self, config: InbetweenConfig):
        super().__init__()
        self.encoder = Encoder(config)
        lengths = [config.num_frames // 4, config.num_frames // 2, config.num_frames]
        stages = [Stage(config, length) for length in lengths for _ in range(config.num_stages)]
        self.lengths = [stage.num_frames for stage in stages]
        self.latent = nn.ModuleDict({"stages": nn.ModuleList(stages)})
        w = config.width
        layers = [(w, 4 * w, False), (4 * w, 4 * w, False), (4 * w, 2 * w, True), (2 * w, 2 * w, False)]
        layers += [(2 * w, w, True), (w, w, False)]
        blocks = [DecoderBlock(*layer) for layer in layers]
        self.decoder = nn.ModuleDict({"blocks": nn.ModuleList(blocks), "head": _decode(w, config.num_channels, True)})

    def forward(self, first, last, noise):
        """Return clips that begin and end with exactly the given frames."""
        start, end = self.encoder(torch.cat([first, last])).chunk(2)
        x = torch.zeros_like(start)[:, :, None].expand(-1, -1, self.lengths[0], -1, -1)
        for length, stage in zip(self.lengths, self.latent["stages"].children(), strict=True):
            x = x.repeat_interleave(length // x.shape[2], dim=2)
            x = stage(start, end, x, noise)
        for block in self.decoder["blocks"].children():
            x = block(x)
        x = self.decoder["head"](x).sigmoid()
        return torch.cat([first[:, :, None], x[:, :, 1:-1], last[:, :, None]], dim=2)


class LayerNorm(nn.Module):
    """Normalizes over all axes but the batch, with a scale and a bias per channel."""

    def __init__(self, features: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x):
        """Normalize [b, c, ...]."""
        shape = (-1, *[1] * (x.ndim - 2))
        return F.layer_norm(x, x.shape[1:]) * self.weight.view(shape) + self.bias.view(shape)


class VideoDiscriminator(nn.Module):
    """Rates clips [b, c, t, h, w]."""

    def __init__(self, config: InbetweenConfig):
        super().__init__()
        widths = _widths(config)
        self.convs = nn.ModuleList(nn.Conv3d(a, b, 4, (1, 2, 2), (0, 1, 1)) for a, b in _pairs(widths))
        self.norms = nn.ModuleList(LayerNorm(b) for b in widths[1:])
        self.head = nn.Linear(config.num_frames * (config.frame_size // 16) ** 2 * widths[-1], 1)

    def forward(self, x):
        """Return logits [b, 1]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            # With a kernel of four frames, padding by one frame before and two after keeps the number of frames.
            x = F.leaky_relu(norm(conv(F.pad(x, (0, 0, 0, 0, 1, 2)))), 0.2)
        return self.head(x.permute(0, 2, 3, 4, 1).flatten(1))


class ResidualBlock(nn.Module):
    """Two convolutions with an average-pooled shortcut; halves height and width."""

    def __init__(self, in_features: int, features: int):
        super().__init__()
        self.first = nn.Conv2d(in_features, in_features, 3, padding=1)
        self.first_norm = LayerNorm(in_features)
        self.second = nn.Conv2d(in_features, features, 4, 2, 1)
        self.second_norm = LayerNorm(features)
        self.shortcut = nn.Conv2d(in_features, features, 1)

    def forward(self, x):
        """Return features at half the height and width."""
        y = self.second_norm(self.second(F.leaky_relu(self.first_norm(self.first(x)), 0.2)))
        return F.leaky_relu(y + self.shortcut(F.avg_pool2d(x, 2)), 0.2)


class ImageDiscriminator(nn.Module):
    """Rates single frames [n, c, h, w]."""

    def __init__(self, config: InbetweenConfig):
        super().__init__()
        widths = _widths(config)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in _pairs(widths))
        self.head = nn.Linear((config.frame_size // 16) ** 2 * widths[-1], 1)

    def forward(self, x):
        """Return logits [n, 1]."""
        for block in self.blocks:
            x = block(x)
        return self.head(x.permute(0, 2, 3, 1).flatten(1))


class Training:
    """All three networks and their optimizers."""

    def __init__(self, config: InbetweenConfig, loss: InbetweenLossConfig, weights: dict[str, np.ndarray], device):
        self.networks = nn.ModuleDict(
            {
                "generator": Generator(config),
                "video_discriminator": VideoDiscriminator(config),
                "image_discriminator": ImageDiscriminator(config),
            }
        )
        load(self.networks, weights)
        self.networks.to(device).train()
        self.loss = loss
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), loss.learning_rate, betas=(loss.beta1, 0.999))
            for name, network in self.networks.items()
        }

    def step(self, clips: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        """Update all networks that are not paused on clips [b, c, t, h, w]; return the losses before the update."""
        generated = self.networks["generator"](clips[:, :, 0], clips[:, :, -1], noise)
        inner, target = generated[:, :, 1:-1], clips[:, :, 1:-1]
        losses = {
            "squared_error": (inner - target).square().mean(),
            "gradient_difference": sum(
                (inner.diff(dim=d).abs() - target.diff(dim=d).abs()).abs().mean() for d in (3, 4)
            ),
        }
        real_and_generated = {
            "video_discriminator": (clips, generated),
            "image_discriminator": (_frames(target), _frames(inner)),
        }
        for name, (real, fake) in real_and_generated.items():
            judge, kind = self.networks[name], name.removesuffix("_discriminator")
            losses[f"{kind}_real"] = F.softplus(-judge(real)).mean()
            losses[f"{kind}_fake"] = F.softplus(judge(fake.detach())).mean()
            judge.requires_grad_(False)
            losses[f"{kind}_generator"] = F.softplus(-judge(fake)).mean()
            judge.requires_grad_(True)
        loss = self.loss.reconstruction_weight * (
            4 * losses["squared_error"] + self.loss.gradient_weight * losses["gradient_difference"]
        )
        loss = loss + self.loss.adversarial_weight * (losses["video_generator"] + losses["image_generator"])
        loss = loss + sum(losses[f"{kind}_{side}"] for kind in ("video", "image") for side in ("real", "fake"))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for name, optimizer in self.optimizers.items():
            if name in self._moving(losses):
                optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def _moving(self, losses: dict[str, torch.Tensor]) -> set[str]:
        by_discriminator = {
            n: [losses[f"{n.removesuffix('_discriminator')}_{s}"].item() for s in ("real", "fake")]
            for n in DISCRIMINATORS
        }
        paused = {name for name, pair in by_discriminator.items() if min(pair) < self.loss.margin}
        if any(max(pair) > 1 - self.loss.margin for pair in by_discriminator.values()):
            paused.add("generator")
        return set(self.networks) - paused or set(self.networks)


def load(networks: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Copy weights with the names and layout of `vidcomp_jax.inbetween.Inbetween`.

    Raises:
        ValueError: a parameter is missing, or a weight belongs to none.
    """
    modules = dict(networks.named_modules())
    state = {}
    for name, value in weights.items():
        path, kind = name.rsplit(".", 1)
        if kind == "kernel":
            value = _kernel(modules[path], value)
        state[f"{path}.{'bias' if kind == 'bias' else 'weight'}"] = torch.from_numpy(np.array(value))
    result = networks.load_state_dict(state, strict=False)
    missing = set(result.missing_keys) & {name for name, _ in networks.named_parameters()}
    if missing or result.unexpected_keys:
        raise ValueError(f"weights missing: {sorted(missing)}; unexpected: {result.unexpected_keys}")


def _kernel(module: nn.Module, value: np.ndarray) -> np.ndarray:
    if isinstance(module, nn.ConvTranspose3d) and module.stride == (1, 2, 2):
        # `vidcomp_jax` stores the spatial taps in the order of a transposed convolution, but not the temporal ones.
        return value[::-1].transpose(3, 4, 0, 1, 2)
    if isinstance(module, nn.ConvTranspose3d):
        return value[::-1, ::-1, ::-1].transpose(3, 4, 0, 1, 2)
    return np.moveaxis(value, (-1, -2), (0, 1))


def _encode(in_features: int, features: int, size: int, stride: int) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv2d(in_features, features, size, stride, 1), "norm": nn.BatchNorm2d(features)})


def _decode(in_features: int, features: int, up: bool) -> nn.Module:
    if up:
        return nn.ConvTranspose3d(in_features, features, (3, 4, 4), (1, 2, 2), 1)
    return nn.ConvTranspose3d(in_features, features, 3, 1, 1)


def _frames(clips: torch.Tensor) -> torch.Tensor:
    return clips.transpose(1, 2).flatten(0, 1)


def _widths(config: InbetweenConfig) -> list[int]:
    return [config.num_channels, *(config.discriminator_width * 2**i for i in range(4))]


def _pairs(widths: list[int]):
    return itertools.pairwise(widths)
