"""The First Order Motion Model: keypoint detector, dense motion, generator and discriminator.

Input: frames. Output: their keypoints, or a source frame rendered at other keypoints.

Siarohin et al., First Order Motion Model for Image Animation, NeurIPS 2019.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Real

from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.dense_motion import DenseMotion, DenseMotionConfig, Motion
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig, MultiScaleDiscriminator
from vidcomp_jax.fomm.generator import Decoded, GeneratorConfig, OcclusionAwareGenerator
from vidcomp_jax.fomm.keypoints import KeypointDetector, KeypointDetectorConfig, Keypoints
from vidcomp_jax.nn.frames import unit_frames
from vidcomp_jax.nn.geometry import inverse_2x2, multiply_2x2
from vidcomp_jax.nn.inference import split_for_inference


@dataclasses.dataclass(frozen=True, kw_only=True)
class FOMMConfig:
    """Sizes of the four networks. The defaults are those of the released 256-pixel models."""

    num_channels: int = 3
    """Number of channels of the frames: 1 for gray, 3 for RGB."""
    num_keypoints: int = 10
    """Number of keypoints per frame."""
    estimate_jacobian: bool = True
    """Predict a Jacobian for each keypoint; otherwise motion is zero-order."""
    estimate_occlusion: bool = True
    """Predict an occlusion map; otherwise the whole warped source is used."""
    align_corners: bool = True
    """Sampling rule of all warps: True as in PyTorch 1.0 and the released checkpoints, False as in later versions."""
    detector: KeypointDetectorConfig = KeypointDetectorConfig()
    """Sizes of the keypoint detector."""
    dense_motion: DenseMotionConfig = DenseMotionConfig()
    """Sizes of the dense-motion network."""
    generator: GeneratorConfig = GeneratorConfig()
    """Sizes of the generator."""
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """Sizes of the discriminator, which is used when training with a GAN weight above 0."""

    def __post_init__(self):
        require_at_least(self, num_channels=1, num_keypoints=1)


class EncodedSource(NamedTuple):
    """A source frame with everything rendering needs of it, whatever the driving keypoints.

    Attributes:
        frame: the frame, in [0, 1].
        keypoints: its keypoints.
        small: the frame, downsampled for the dense-motion network.
        features: the generator's features of the frame.
    """

    frame: Float[Array, "*s h w c"]
    keypoints: Keypoints
    small: Float[Array, "*s h2 w2 c"]
    features: Float[Array, "*s h3 w3 d"]


class Rendered(NamedTuple):
    """A rendered frame and the intermediate results of rendering it.

    Attributes:
        prediction: the frame, in [0, 1].
        deformed_source: the source frame, warped by the deformation alone.
        occlusion_map: 1 where the warped source was used, 0 where the generator inpainted.
        masks: weight of each candidate motion at every pixel, the background first; they sum to 1.
        deformation: sampling grid that warps the source, (x, y).
        sparse_deformed: the downsampled source warped by each candidate motion.
    """

    prediction: Float[Array, "*b h w c"]
    deformed_source: Float[Array, "*b h w c"]
    occlusion_map: Float[Array, "*b h2 w2 1"]
    masks: Float[Array, "*b h2 w2 m"]
    deformation: Float[Array, "*b h2 w2 2"]
    sparse_deformed: Float[Array, "*b m h2 w2 c"]


class FirstOrderMotionModel(nnx.Module):
    """Animates a source frame with the motion of keypoints.

    `detect`, `encode` and `render` always run in inference mode, whatever mode the model is in, and are compiled once
    per shape. `reconstruct` and `generate` are differentiable; training uses them.

    Args:
        config: sizes.
        rngs: random keys for the initial weights, such as `nnx.Rngs(0)`.
    """

    def __init__(self, config: FOMMConfig, *, rngs: nnx.Rngs):
        self.config = config
        channels, keypoints = config.num_channels, config.num_keypoints
        sizes: dict[str, Any] = {"num_channels": channels, "num_keypoints": keypoints, "rngs": rngs}
        self.detector = KeypointDetector(config.detector, estimate_jacobian=config.estimate_jacobian, **sizes)
        self.dense_motion = DenseMotion(
            config.dense_motion,
            estimate_occlusion=config.estimate_occlusion,
            align_corners=config.align_corners,
            **sizes,
        )
        self.generator = OcclusionAwareGenerator(
            config.generator, num_channels=channels, align_corners=config.align_corners, rngs=rngs
        )
        self.discriminator = MultiScaleDiscriminator(config.discriminator, **sizes)

    def detect(self, frames: Real[Array | np.ndarray, "*b h w c"]) -> Keypoints:
        """Detect keypoints of frames, with any number of leading axes.

        Args:
            frames: floats in [0, 1], or integers, which are divided by the largest value of their type (uint8: 255).

        Returns:
            Positions [*b, k, 2] and Jacobians [*b, k, 2, 2], in coordinates (x, y) from -1 to 1.

        Raises:
            InputError: if the frames have a wrong number of channels, are too small, or, outside `jit`, hold floats
                that are not in [0, 1].
        """
        frames = self._unit_frames(frames)
        definition, state = split_for_inference(self)
        return _detect(definition, state, frames)

    def encode(self, source: Real[Array | np.ndarray, "*s h w c"], keypoints: Keypoints | None) -> EncodedSource:
        """Compute what rendering needs of source frames, once for all the frames to be rendered from them.

        Args:
            source: frames as for `detect`; height and width must be divisible by 2**config.generator.num_down_blocks.
            keypoints: keypoints of the source, positions [*s, k, 2] and Jacobians [*s, k, 2, 2].

        Raises:
            InputError: if the number of channels or keypoints is wrong, height or width is not divisible, or, outside
                `jit`, floats are not in [0, 1].
        """
        source = self._unit_frames(source)
        expected = (*source.shape[:-3], self.config.num_keypoints, 2)
        if keypoints is None or keypoints.position.shape != expected:
            found = "none" if keypoints is None else f"of shape {keypoints.position.shape}"
            raise InputError(f"source keypoints {found} for frames of shape {source.shape}: expected {expected}")
        definition, state = split_for_inference(self)
        return _encode(definition, state, source, keypoints)

    def render(
        self,
        source: Real[Array | np.ndarray, "*s h w c"] | EncodedSource,
        source_keypoints: Keypoints | None,
        driving_keypoints: Keypoints,
    ) -> Rendered:
        """Render source frames at driving keypoints.

        The driving keypoints have the leading axes of the source, then any number of others: one source frame
        [h, w, c] with keypoints [t, k, 2] gives t frames, a batch [b, h, w, c] with [b, t, k, 2] gives b x t.
        The source is encoded once for all of them.

        Args:
            source: frames as for `encode`, or the result of `encode`.
            source_keypoints: keypoints of the source; ignored for an encoded source.
            driving_keypoints: keypoints to render at.

        Raises:
            InputError: as for `encode`, or if the number or the leading axes of the driving keypoints are wrong.
        """
        encoded = source if isinstance(source, EncodedSource) else self.encode(source, source_keypoints)
        leading = encoded.frame.shape[:-3]
        given = driving_keypoints.position.shape
        if len(given) < 2 or given[: len(leading)] != leading or given[-2] != self.config.num_keypoints:
            raise InputError(
                f"driving keypoints of shape {given} for source frames of shape {encoded.frame.shape}: expected "
                f"{(*leading, '...', self.config.num_keypoints, 2)}"
            )
        definition, state = split_for_inference(self)
        return _render(definition, state, encoded, driving_keypoints)

    def reconstruct(
        self, source: Float[Array, "b h w c"], driving: Float[Array, "b h w c"]
    ) -> tuple[Keypoints, Keypoints, Rendered]:
        """Detect keypoints of both frames and render the driving frame from the source, as in training."""
        source_keypoints, driving_keypoints = self.detector.each(source, driving)
        return source_keypoints, driving_keypoints, self.generate(source, source_keypoints, driving_keypoints)

    def generate(
        self, source: Float[Array, "b h w c"], source_keypoints: Keypoints, driving_keypoints: Keypoints
    ) -> Rendered:
        """Render one frame from each source frame, differentiably, and in the mode that the model is in."""
        motion = self.dense_motion(source, source_keypoints, driving_keypoints)
        decoded = self.generator.decode(self.generator.encode(source), motion, source)
        return _rendered(motion, decoded)

    def _unit_frames(self, frames: Array | np.ndarray) -> Array | np.ndarray:
        if frames.ndim < 3 or frames.shape[-1] != self.config.num_channels:
            raise InputError(
                f"frames of shape {frames.shape}: the model takes {self.config.num_channels} channels on the last axis"
            )
        return unit_frames(frames)


@functools.partial(jax.jit, static_argnums=0)
def _detect(definition, state, frames: Array) -> Keypoints:
    leading = frames.shape[:-3]
    keypoints = nnx.merge(definition.graphdef, state).detector(frames.reshape(-1, *frames.shape[-3:]))
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), keypoints)


@functools.partial(jax.jit, static_argnums=0)
def _encode(definition, state, source: Array, keypoints: Keypoints) -> EncodedSource:
    model = nnx.merge(definition.graphdef, state)
    leading, frames = source.shape[:-3], source.reshape(-1, *source.shape[-3:])
    small, features = model.dense_motion.down(frames), model.generator.encode(frames)
    small, features = (x.reshape(*leading, *x.shape[1:]) for x in (small, features))
    return EncodedSource(source, keypoints, small, features)


@functools.partial(jax.jit, static_argnums=0)
def _render(definition, state, encoded: EncodedSource, driving: Keypoints) -> Rendered:
    model = nnx.merge(definition.graphdef, state)
    leading = driving.position.shape[:-2]
    num_sources = math.prod(encoded.frame.shape[:-3])
    frames, small, features = (
        x.reshape(num_sources, *x.shape[-3:]) for x in (encoded.frame, encoded.small, encoded.features)
    )
    driving = Keypoints(*(x.reshape(math.prod(leading), *x.shape[len(leading) :]) for x in driving))
    times = driving.position.shape[0] // num_sources
    source = Keypoints(
        *(
            jnp.repeat(x.reshape(num_sources, *y.shape[1:]), times, axis=0)
            for x, y in zip(encoded.keypoints, driving, strict=True)
        )
    )
    motion = model.dense_motion.from_small(small, source, driving)
    rendered = _rendered(motion, model.generator.decode(features, motion, frames))
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), rendered)


def _rendered(motion: Motion, decoded: Decoded) -> Rendered:
    return Rendered(*decoded, motion.occlusion_map, motion.masks, motion.deformation, motion.sparse_deformed)


def transfer_motion(
    source: Keypoints,
    driving: Keypoints,
    driving_initial: Keypoints,
    *,
    relative: bool = True,
    relative_jacobian: bool = True,
    scale: float | Float[Array, "*#b"] = 1.0,
) -> Keypoints:
    """Move the source keypoints as the driving keypoints move relative to their initial ones.

    Section 3.3 of the paper: positions change by the same difference, Jacobians by the same ratio.

    Args:
        source: keypoints of the source frame.
        driving: keypoints of driving frames; their leading axes broadcast against the others.
        driving_initial: keypoints of the driving frame that resembles the source in pose, usually the first.
        relative: False returns the driving keypoints unchanged.
        relative_jacobian: with `relative`, whether to transfer Jacobians by ratio; False returns the driving ones.
        scale: factor for the change of position, such as `movement_scale` returns.
    """
    if not relative:
        return driving
    scale = jnp.asarray(scale)[..., None, None]
    position = source.position + scale * (driving.position - driving_initial.position)
    if not relative_jacobian:
        return Keypoints(position, driving.jacobian)
    change = multiply_2x2(driving.jacobian, inverse_2x2(driving_initial.jacobian))
    return Keypoints(position, multiply_2x2(change, source.jacobian))


def movement_scale(source: Keypoints, driving_initial: Keypoints) -> float:
    """Size of the source figure relative to the driving one: the square root of the ratio of their hulls' areas.

    Takes the keypoints of one frame each, positions [k, 2], and computes their convex hulls on the host.

    Raises:
        InputError: if the keypoints of the source, or the driving ones, span no area.
    """
    from scipy.spatial import ConvexHull, QhullError

    areas = []
    for name, keypoints in (("source", source), ("driving", driving_initial)):
        try:
            areas.append(ConvexHull(np.asarray(keypoints.position)).volume)
        except QhullError:
            problem = f"the {name} keypoints span no area, so movement cannot be scaled to them; leave the scaling out"
            raise InputError(problem) from None
    return math.sqrt(areas[0] / areas[1])
