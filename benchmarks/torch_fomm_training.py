"""A training step of the First Order Motion Model in plain PyTorch, as a reference for timings.

Input: source and driving frames, float32 [b, c, h, w] in [0, 1]. Output: weighted losses and one Adam update of the
generator, the detector and, if its weight is not zero, the discriminator. Objectives of Siarohin et al., "First Order
Motion Model for Image Animation", NeurIPS 2019, section 3.3, with the weights of the release.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from benchmarks.recipes import model_params
from benchmarks.torch_fomm import FOMM, Keypoints, load_recipe
from benchmarks.torch_layers import AntiAliasDownsample, coordinate_grid, gaussians, total

VGG19_WIDTHS: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
VGG19_TAPS = (1, 6, 11, 20, 29)  # the outputs of relu1_1, relu2_1, relu3_1, relu4_1, relu5_1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainParams:
    """Loss weights and scales; the defaults are those of the release."""

    scales: tuple[float, ...] = (1, 0.5, 0.25, 0.125)
    perceptual: tuple[float, ...] = (10.0,) * 5
    pyramid: float = 100.0
    generator_gan: float = 1.0
    discriminator_gan: float = 1.0
    feature_matching: tuple[float, ...] = (10.0,) * 4
    equivariance_value: float = 10.0
    equivariance_jacobian: float = 10.0


class DiscriminatorBlock(nn.Module):
    """4x4 convolution, instance norm (except in the first block), leaky ReLU, pooling (except in the last block)."""

    def __init__(self, inputs: int, outputs: int, sn: bool, norm: bool, pool: bool):
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, 4)
        self.conv = spectral_norm(conv) if sn else conv
        self.norm = nn.InstanceNorm2d(outputs, affine=True) if norm else None
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[b, inputs, h, w] -> [b, outputs, h', w']."""
        x = self.conv(x)
        x = F.leaky_relu(x if self.norm is None else self.norm(x), 0.2)
        return F.avg_pool2d(x, 2) if self.pool else x


class Discriminator(nn.Module):
    """Patch discriminator of one scale, optionally with Gaussians at the keypoints as additional input."""

    def __init__(self, inputs: int, block_expansion: int, max_features: int, num_blocks: int, sn: bool, use_kp: bool):
        super().__init__()
        self.use_kp = use_kp
        widths = [inputs, *(min(max_features, block_expansion * 2 ** (i + 1)) for i in range(num_blocks))]
        self.down_blocks = nn.ModuleList(
            DiscriminatorBlock(widths[i], widths[i + 1], sn, norm=i > 0, pool=i < num_blocks - 1)
            for i in range(num_blocks)
        )
        conv = nn.Conv2d(widths[-1], 1, 1)
        self.conv = spectral_norm(conv) if sn else conv

    def forward(self, x: Tensor, position: Tensor) -> list[Tensor]:
        """Return the feature maps of all blocks, followed by the score map [b, 1, h', w']."""
        if self.use_kp:
            x = torch.cat([x, gaussians(position, *x.shape[2:])], 1)
        maps = []
        for block in self.down_blocks:
            x = block(x)
            maps.append(x)
        return [*maps, self.conv(x)]


class MultiScaleDiscriminator(nn.Module):
    """One discriminator per scale."""

    def __init__(
        self,
        num_channels: int,
        num_kp: int,
        scales: Sequence[float],
        sn: bool = False,
        use_kp: bool = False,
        **size: int,
    ):
        super().__init__()
        self.scales = scales
        inputs = num_channels + (num_kp if use_kp else 0)
        self.discs = nn.ModuleDict(
            {str(scale).replace(".", "-"): Discriminator(inputs, **size, sn=sn, use_kp=use_kp) for scale in scales}
        )

    def forward(self, pyramid: dict[float, Tensor], position: Tensor) -> list[list[Tensor]]:
        """Return the feature maps and score map of each scale, given the images and keypoint positions [b, k, 2]."""
        discs = zip(self.scales, self.discs.values(), strict=True)
        return [disc(pyramid[scale], position) for scale, disc in discs]


class ImagePyramid(nn.Module):
    """Downsamples images to several scales."""

    def __init__(self, num_channels: int, scales: Sequence[float]):
        super().__init__()
        self.scales = scales
        self.downs = nn.ModuleList(AntiAliasDownsample(num_channels, scale) for scale in scales)

    def forward(self, image: Tensor) -> dict[float, Tensor]:
        """Return images [b, c, h, w] at each scale."""
        return {scale: down(image) for scale, down in zip(self.scales, self.downs, strict=True)}


class VGG19(nn.Module):
    """The convolutions of VGG19 under torchvision's names; returns five of its ReLU activations."""

    mean: Tensor
    std: Tensor

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG19_WIDTHS:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[b, 1 or 3, h, w] in [0, 1] -> five feature maps."""
        x = (image - self.mean) / self.std
        maps = []
        for index, layer in enumerate(itertools.islice(self.features, VGG19_TAPS[-1] + 1)):
            x = layer(x)
            if index in VGG19_TAPS:
                maps.append(x)
        return maps


class RandomWarp(NamedTuple):
    """A random affine and thin-plate-spline transformation for each example.

    Attributes:
        theta: affine part, [b, 2, 3].
        control: weights of the thin-plate kernels, [b, 1, n * n], on a regular grid of n x n points.
    """

    theta: Tensor
    control: Tensor

    @classmethod
    def sample(cls, batch: int, device: torch.device) -> "RandomWarp":
        """Draw warps with the standard deviations of the released configurations."""
        theta = 0.05 * torch.randn(batch, 2, 3, device=device) + torch.eye(2, 3, device=device)
        return cls(theta, 0.005 * torch.randn(batch, 1, 25, device=device))

    def _from_control_points(self, points: Tensor) -> Tensor:
        n = round(self.control.shape[-1] ** 0.5)
        return points[:, :, None] - coordinate_grid(n, n, points).view(1, 1, -1, 2)

    def points(self, points: Tensor) -> Tensor:
        """Return the transformed points of [b, n, 2]."""
        distance = self._from_control_points(points).abs().sum(-1)
        bend = (distance.square() * torch.log(distance + 1e-6) * self.control).sum(-1, keepdim=True)
        return points @ self.theta[:, :, :2].mT + self.theta[:, None, :, 2] + bend

    def jacobian(self, points: Tensor) -> Tensor:
        """Return the Jacobian of the transformation at points [b, n, 2]: [b, n, 2, 2]."""
        offset = self._from_control_points(points)
        distance = offset.abs().sum(-1)
        slope = 2 * distance * torch.log(distance + 1e-6) + distance.square() / (distance + 1e-6)
        bend = ((slope * self.control)[..., None] * offset.sign()).sum(2)
        return self.theta[:, None, :, :2] + bend[:, :, None]  # the spline adds the same offset to x and y

    def frame(self, frame: Tensor, align_corners: bool) -> Tensor:
        """Sample frames [b, c, h, w] at the transformed pixel grid, reflecting at the border."""
        b, _, h, w = frame.shape
        grid = coordinate_grid(h, w, frame).view(1, h * w, 2).expand(b, -1, -1)
        grid = self.points(grid).view(b, h, w, 2)
        return F.grid_sample(frame, grid, padding_mode="reflection", align_corners=align_corners)


def pyramid_loss(real: dict[float, Tensor], fake: dict[float, Tensor]) -> Tensor:
    """Return the mean absolute difference of pixels plus that of gradient magnitudes, averaged over scales."""
    loss = total(F.l1_loss(fake[scale], real[scale]) for scale in real)
    for dim in (2, 3):
        loss += total(F.l1_loss(fake[s].diff(dim=dim).abs(), real[s].diff(dim=dim).abs()) for s in real)
    return loss / len(real)


class Training(nn.Module):
    """Networks, losses and optimizers of a training step; a module so that `to` moves all of it to a device."""

    def __init__(
        self,
        config: Mapping[str, Any],
        params: TrainParams,
        model: FOMM,
        vgg: VGG19 | None = None,
        learning_rates: tuple[float, float, float] = (2e-4, 2e-4, 2e-4),
    ):
        super().__init__()
        channels, num_kp = (config["common_params"][key] for key in ("num_channels", "num_kp"))
        self.params, self.vgg = params, vgg
        self.detector, self.generator = model
        self.pyramid = ImagePyramid(channels, params.scales)
        self.discriminator = MultiScaleDiscriminator(channels, num_kp, **config["discriminator_params"])
        self.train()
        trained = zip((self.generator, self.detector, self.discriminator), learning_rates, strict=True)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999)) for net, rate in trained]

    @classmethod
    def of_recipe(cls, name: str, params: TrainParams, model: FOMM, vgg: VGG19 | None = None) -> "Training":
        """The training of a configuration whose discriminator has the recipe weights, as `model` has."""
        training = cls(model_params(name), params, model, vgg)
        load_recipe(training.discriminator, name, "discriminator")
        return training

    def generator_losses(self, source: Tensor, driving: Tensor, warp: RandomWarp) -> tuple:
        """Return the weighted losses of generator and detector, the prediction and the driving positions."""
        weights = self.params
        source_kp, kp = self.detector(source), self.detector(driving)  # in the order of the official code
        prediction = self.generator(source, source_kp, kp).prediction
        real, fake = self.pyramid(driving), self.pyramid(prediction)
        losses = {"perceptual": self.reconstruction(real, fake)}
        if weights.generator_gan:
            position = kp.position.detach()
            fakes, reals = self.discriminator(fake, position), self.discriminator(real, position)
            losses["gen_gan"] = weights.generator_gan * total((1 - maps[-1]).square().mean() for maps in fakes)
            losses["feature_matching"] = total(
                weight * F.l1_loss(a, b)
                for fake_maps, real_maps in zip(fakes, reals, strict=True)
                for weight, a, b in zip(weights.feature_matching, fake_maps[:-1], real_maps[:-1], strict=True)
            )
        losses |= self.equivariance(driving, kp, warp)
        return losses, prediction, kp.position

    def reconstruction(self, real: dict[float, Tensor], fake: dict[float, Tensor]) -> Tensor:
        """Return the perceptual loss over all scales or, without VGG19, the pyramid loss of `vidcomp_jax`."""
        if self.vgg is None:
            return self.params.pyramid * pyramid_loss(real, fake)
        return total(
            weight * F.l1_loss(a, b.detach())
            for scale in self.params.scales
            for weight, a, b in zip(self.params.perceptual, self.vgg(fake[scale]), self.vgg(real[scale]), strict=True)
        )

    def equivariance(self, driving: Tensor, kp: Keypoints, warp: RandomWarp) -> dict[str, Tensor]:
        """Return the weighted equivariance losses of keypoints and Jacobians (equations 5 and 6)."""
        warped_kp = self.detector(warp.frame(driving, self.generator.align_corners))
        value = F.l1_loss(kp.position, warp.points(warped_kp.position))
        losses = {"equivariance_value": self.params.equivariance_value * value}
        if kp.jacobian is not None:
            product = torch.inverse(kp.jacobian) @ warp.jacobian(warped_kp.position) @ warped_kp.jacobian
            error = (torch.eye(2, device=product.device) - product).abs().mean()
            losses["equivariance_jacobian"] = self.params.equivariance_jacobian * error
        return losses

    def discriminator_loss(self, driving: Tensor, prediction: Tensor, position: Tensor) -> Tensor:
        """Return the weighted least-squares loss, with target one for real and zero for rendered patches."""
        prediction, position = prediction.detach(), position.detach()
        fakes = self.discriminator(self.pyramid(prediction), position)
        reals = self.discriminator(self.pyramid(driving), position)
        pairs = zip(reals, fakes, strict=True)
        loss = total(((1 - real[-1]).square() + fake[-1].square()).mean() for real, fake in pairs)
        return self.params.discriminator_gan * loss

    def step(self, source: Tensor, driving: Tensor, warp: RandomWarp) -> dict[str, Tensor]:
        """Update every network once on frames [b, c, h, w]; return the losses before the update, detached."""
        losses, prediction, position = self.generator_losses(source, driving, warp)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        total(losses.values()).backward()
        for optimizer in self.optimizers[:2]:
            optimizer.step()
        if self.params.generator_gan:
            self.optimizers[2].zero_grad()
            losses["disc_gan"] = self.discriminator_loss(driving, prediction, position)
            losses["disc_gan"].backward()
            self.optimizers[2].step()
        return {key: value.detach() for key, value in losses.items()}
