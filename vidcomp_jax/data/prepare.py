"""Makes what networks are trained on from the frames that batches hold, as a part of the compiled training step.

Input: uint8 frames at the size at which they are stored, from `pairs` or `windows`. Output: float32 frames in [0, 1]
at the size of the networks; pairs are augmented.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from vidcomp_jax.data.augment import AugmentationConfig, augment
from vidcomp_jax.data.resampling import resize, to_channels

Stored = UInt8[Array, "b h w c"]
Frames = Float[Array, "b h2 w2 c2"]


def prepare_frames(
    frames: UInt8[Array, "*n h w c"], *, size: int | None = None, num_channels: int | None = None
) -> Float[Array, "*n h2 w2 c2"]:
    """Frames in [0, 1], resized and converted to gray or RGB as reading them with `size` and `num_channels` would.

    Args:
        frames: with pixels from 0 to 255.
        size: height and width in pixels; None leaves them as they are.
        num_channels: 1 for gray, 3 for RGB; None leaves them as they are.
    """
    pixels = frames.astype(jnp.float32) if size is None else resize(frames, size)
    return (pixels if num_channels is None else to_channels(pixels, num_channels)) / 255


def prepare_pairs(
    pair: tuple[Stored, Stored],
    keys: Key[Array, " b"],
    *,
    augmentation: AugmentationConfig | None = None,
    size: int | None = None,
    num_channels: int | None = None,
) -> tuple[Frames, Frames]:
    """Source and driving frames in [0, 1]; each pair is augmented with its own key.

    Args:
        pair: the frames of `vidcomp_jax.data.Pair`.
        keys: one random key for each pair.
        augmentation: None leaves the frames unchanged.
        size, num_channels: as in `prepare_frames`.
    """
    frames = prepare_frames(jnp.stack(pair, 1), size=size, num_channels=num_channels)
    if augmentation is not None:
        frames = jax.vmap(lambda both, key: augment(both, augmentation, key))(frames, keys)
    return frames[:, 0], frames[:, 1]
