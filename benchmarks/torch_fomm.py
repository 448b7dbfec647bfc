"""The networks of the First Order Motion Model in plain PyTorch, as a reference for timings.

Input: images, float32 [b, c, h, w] in [0, 1]. Output: keypoints and rendered frames.
Siarohin et al., "First Order Motion Model for Image Animation", NeurIPS 2019. Parameter names are those of the
released checkpoints, so that the official state dicts load strictly. As in the official code, rendering encodes the
source again for every frame. `torch_fomm_training` has the losses and the training step.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.recipes import model_params
from benchmarks.torch_layers import (
    AntiAliasDownsample,
    ConvBlock,
    Hourglass,
    ResidualBlock,
    coordinate_grid,
    gaussians,
)
from tools.make_checkpoint import recipe_state


class Keypoints(NamedTuple):
    """Keypoints of a batch of frames.

    Attributes:
        position: [b, k, 2], (x, y) in [-1, 1].
        jacobian: [b, k, 2, 2], or None in a zero-order model.
    """

    position: Tensor
    jacobian: Tensor | None


class Rendered(NamedTuple):
    """Outputs of the generator for a batch.

    Attributes:
        prediction: [b, c, h, w] in [0, 1].
        deformation: sampling grid at the resolution of the motion network, [b, h', w', 2].
        occlusion_map: [b, 1, h', w'] in [0, 1], or None if the configuration has none.
        mask: weights of the background and of each keypoint, [b, k + 1, h', w'], summing to one.
        sparse_deformed: the source warped by each candidate motion, [b, k + 1, c, h', w'].
        deformed: the source warped by `deformation`, [b, c, h, w].
    """

    prediction: Tensor
    deformation: Tensor
    occlusion_map: Tensor | None
    mask: Tensor
    sparse_deformed: Tensor
    deformed: Tensor


def resized_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """Resize a sampling grid [b, h, w, 2] to [b, height, width, 2]."""
    return F.interpolate(grid.permute(0, 3, 1, 2), (height, width), mode="bilinear").permute(0, 2, 3, 1)


class KeypointDetector(nn.Module):
    """Detects keypoints as the averages of coordinates and of Jacobian maps under softmax heatmaps."""

    def __init__(
        self,
        num_kp: int,
        num_channels: int,
        estimate_jacobian: bool,
        temperature: float,
        scale_factor: float = 1,
        single_jacobian_map: bool = False,
        **hourglass: int,
    ):
        super().__init__()
        self.temperature = temperature
        self.down = AntiAliasDownsample(num_channels, scale_factor)
        self.predictor = Hourglass(num_channels, **hourglass)
        self.kp = nn.Conv2d(self.predictor.outputs, num_kp, 7)
        maps = 4 * (1 if single_jacobian_map else num_kp)
        self.jacobian = nn.Conv2d(self.predictor.outputs, maps, 7) if estimate_jacobian else None

    def forward(self, frame: Tensor) -> Keypoints:
        """Return the keypoints of frames [b, c, h, w]."""
        features = self.predictor(self.down(frame))
        scores = self.kp(features)
        b, _, h, w = scores.shape
        heatmap = F.softmax(scores.flatten(2) / self.temperature, -1).view_as(scores)
        position = torch.einsum("bkhw,hwi->bki", heatmap, coordinate_grid(h, w, heatmap))
        if self.jacobian is None:
            return Keypoints(position, None)
        maps = self.jacobian(features).view(b, -1, 4, h, w)
        jacobian = (heatmap[:, :, None] * maps).sum((-2, -1))
        return Keypoints(position, jacobian.unflatten(-1, (2, 2)))


class DenseMotion(nn.Module):
    """Predicts the dense motion from the source and both frames' keypoints."""

    def __init__(
        self,
        num_kp: int,
        num_channels: int,
        estimate_occlusion_map: bool,
        align_corners: bool,
        scale_factor: float = 1,
        **hourglass: int,
    ):
        super().__init__()
        self.align_corners = align_corners
        self.down = AntiAliasDownsample(num_channels, scale_factor)
        self.hourglass = Hourglass((num_kp + 1) * (num_channels + 1), **hourglass)
        self.mask = nn.Conv2d(self.hourglass.outputs, num_kp + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.outputs, 1, 7, padding=3) if estimate_occlusion_map else None

    def candidate_grids(self, source: Keypoints, driving: Keypoints, height: int, width: int) -> Tensor:
        """Return the identity and one affine motion per keypoint (equation 4), [b, k + 1, height, width, 2]."""
        identity = coordinate_grid(height, width, source.position)
        offset = identity - driving.position[:, :, None, None]
        if source.jacobian is not None and driving.jacobian is not None:
            linear = source.jacobian @ torch.inverse(driving.jacobian)
            offset = torch.einsum("bkij,bkhwj->bkhwi", linear, offset)
        motions = offset + source.position[:, :, None, None]
        return torch.cat([identity.expand_as(motions[:, :1]), motions], 1)

    def forward(self, source: Tensor, source_kp: Keypoints, driving_kp: Keypoints) -> tuple[Tensor | None, ...]:
        """Return `deformation`, `occlusion_map`, `mask` and `sparse_deformed` as in `Rendered`."""
        source = self.down(source)
        b, c, h, w = source.shape
        grids = self.candidate_grids(source_kp, driving_kp, h, w)
        n = grids.shape[1]
        repeated = source[:, None].expand(b, n, c, h, w).reshape(b * n, c, h, w)
        warped = F.grid_sample(repeated, grids.flatten(0, 1), align_corners=self.align_corners).view(b, n, c, h, w)
        heatmap = gaussians(driving_kp.position, h, w) - gaussians(source_kp.position, h, w)
        heatmap = F.pad(heatmap, (0, 0, 0, 0, 1, 0))  # the background has no heatmap
        features = self.hourglass(torch.cat([heatmap[:, :, None], warped], 2).flatten(1, 2))
        mask = F.softmax(self.mask(features), 1)
        deformation = (mask[..., None] * grids).sum(1)
        occlusion = None if self.occlusion is None else torch.sigmoid(self.occlusion(features))
        return deformation, occlusion, mask, warped


class OcclusionAwareGenerator(nn.Module):
    """Renders the driving frame from the source frame and the keypoints of both."""

    def __init__(
        self,
        num_kp: int,
        num_channels: int,
        estimate_occlusion_map: bool,
        block_expansion: int,
        max_features: int,
        num_down_blocks: int,
        num_bottleneck_blocks: int,
        dense_motion_params: dict[str, Any],
        align_corners: bool,
    ):
        super().__init__()
        self.align_corners = align_corners
        self.dense_motion_network = DenseMotion(
            num_kp, num_channels, estimate_occlusion_map, align_corners, **dense_motion_params
        )
        widths = [min(max_features, block_expansion * 2**level) for level in range(num_down_blocks + 1)]
        levels = range(num_down_blocks)
        self.first = ConvBlock(num_channels, widths[0], kernel=7)
        self.down_blocks = nn.ModuleList(ConvBlock(widths[i], widths[i + 1], resample="down") for i in levels)
        # In the order of the official code, by which optimizers number the parameters.
        self.up_blocks = nn.ModuleList(ConvBlock(widths[i + 1], widths[i], resample="up") for i in reversed(levels))
        blocks = ((f"r{i}", ResidualBlock(widths[-1])) for i in range(num_bottleneck_blocks))
        self.bottleneck = nn.Sequential(OrderedDict(blocks))
        self.final = nn.Conv2d(widths[0], num_channels, 7, padding=3)

    def forward(self, source: Tensor, source_kp: Keypoints, driving_kp: Keypoints) -> Rendered:
        """Render the driving frame from a source [b, c, h, w] and both frames' keypoints."""
        features = self.first(source)
        for block in self.down_blocks:
            features = block(features)
        grid, occlusion, mask, sparse = self.dense_motion_network(source, source_kp, driving_kp)
        features = self.warp(features, grid)
        if occlusion is not None:
            features = features * F.interpolate(occlusion, features.shape[2:], mode="bilinear")
        features = self.bottleneck(features)
        for block in self.up_blocks:
            features = block(features)
        prediction = torch.sigmoid(self.final(features))
        return Rendered(prediction, grid, occlusion, mask, sparse, self.warp(source, grid))

    def warp(self, image: Tensor, grid: Tensor) -> Tensor:
        """Sample `image` [b, c, h, w] at the coordinates in `grid`, after resizing that to the image's size."""
        return F.grid_sample(image, resized_grid(grid, *image.shape[2:]), align_corners=self.align_corners)


class FOMM(NamedTuple):
    """The two networks needed for rendering.

    Attributes:
        detector: frame -> keypoints.
        generator: source and keypoints -> frame.
    """

    detector: KeypointDetector
    generator: OcclusionAwareGenerator


def load_recipe(module: nn.Module, name: str, part: str) -> None:
    """Load the recipe weights of one part (`generator`, ...) of a configuration; all names must match."""
    state = recipe_state(name)[part]
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)


def networks(params: Mapping[str, Any], *, align_corners: bool = True) -> FOMM:
    """Return the networks of official `model_params`, with PyTorch's initial weights."""
    common, generator = dict(params["common_params"]), dict(params["generator_params"])
    detector = KeypointDetector(**common, **params["kp_detector_params"])
    del common["estimate_jacobian"]  # the generator tells from the keypoints whether there are Jacobians
    generator.setdefault("estimate_occlusion_map", False)
    return FOMM(detector, OcclusionAwareGenerator(**common, **generator, align_corners=align_corners))


def build(name: str, *, align_corners: bool = True) -> FOMM:
    """Return the networks of a configuration with the recipe weights, in inference mode."""
    model = networks(model_params(name), align_corners=align_corners)
    load_recipe(model.detector, name, "kp_detector")
    load_recipe(model.generator, name, "generator")
    for network in model:
        network.eval()
    return model


@torch.no_grad()
def render(model: FOMM, source: Tensor, source_kp: Keypoints, driving: Tensor) -> Tensor:
    """Render driving frames [b, c, h, w] from a source [b, c, h, w] and its keypoints."""
    return model.generator(source, source_kp, model.detector(driving)).prediction
