"""Generation of clips with a trained 3D-convolution generator, and its errors on held-out clips.

Input: first and last frames. Output: clips. Errors are reported together with those of two baselines that need no
model: repeating the first frame, and cross-fading from the first frame to the last.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key, UInt8

from vidcomp_jax.data.clips import Clips, spread_long
from vidcomp_jax.errors import InputError
from vidcomp_jax.inbetween.losses import draw_noise
from vidcomp_jax.inbetween.networks import Generator, InbetweenConfig
from vidcomp_jax.media.images import to_float
from vidcomp_jax.media.panels import panel
from vidcomp_jax.metrics import score
from vidcomp_jax.nn.precision import Precision, in_precision
from vidcomp_jax.replicas import Devices, Replicas
from vidcomp_jax.storage.checkpoint import load_weights
from vidcomp_jax.storage.config import CONFIG_FILE, load_config
from vidcomp_jax.storage.steps import Which

BATCH_SIZE = 16
"""Number of clips generated at a time, on all devices together; smaller batches are padded, so that one compiled
program serves all."""

Frames = Float[np.ndarray, "_b _h _w _c"]  # sizes are checked by the functions, which raise an InputError


class InbetweenModel:
    """A trained generator, ready for inference.

    Attributes:
        config: sizes of the networks.
        num_frames: frames per generated clip, ends included.
        stochastic: whether the clips depend on the random key, as they do but for the variant `video-completion`.

    Args:
        generator: the network.
        config: its sizes.
        devices: devices of this process that share the clips of a batch; all of them if None.
    """

    def __init__(self, generator: Generator, config: InbetweenConfig, *, devices: Devices = None):
        self.config = config
        self.num_frames = config.num_frames
        self.stochastic = not config.as_in_video_completion
        self._network = Replicas(generator, devices)

    def __call__(
        self, first: Frames, last: Frames, *, key: Key[Array, ""] | None = None
    ) -> Float[np.ndarray, "b t h w c"]:
        """Generate the clips between `first` and `last`.

        Args:
            first, last: frames in [0, 1], with a height and width that are multiples of 8. Frames of the size used in
                training give the best results.
            key: random key of the noise; None uses a fixed key.

        Returns:
            Clips of `num_frames` frames in [0, 1]; their ends are exactly `first` and `last`.

        Raises:
            InputError: the two shapes differ, or the size or the number of channels does not suit the model.
        """
        if first.shape != last.shape:
            raise InputError(f"first frames are {first.shape}, last frames {last.shape}; they must have the same shape")
        if first.shape[-1] != self.config.num_channels:
            raise InputError(
                f"frames have {first.shape[-1]} channels, the model was trained with {self.config.num_channels}"
            )
        count = len(first)
        keys = jax.random.split(jax.random.key(0) if key is None else key, count)
        noise = np.asarray(draw_noise(keys, self.config.noise_size))
        clips, running = [], None
        for start in range(0, count, BATCH_SIZE):
            parts = [x[start : start + BATCH_SIZE] for x in (first, last, noise)]
            batch = [self._network.filled_up(x, BATCH_SIZE) for x in parts]
            generated = self._network.run(_generate, *batch, axes=(0, 0, 0))
            if running is not None:  # fetched while the devices work on the next batch
                clips.append(np.asarray(running)[:BATCH_SIZE])
            running = generated
        clips.append(np.asarray(running)[:BATCH_SIZE])
        return np.concatenate(clips)[:count]


def load_inbetween(
    directory: Path | str, which: Which = "latest", *, precision: Precision = "float32"
) -> InbetweenModel:
    """Load the generator of a run of `experiments.train_inbetween`.

    Args:
        directory: work folder of the run.
        which: the latest checkpoint, or the one with the smallest error on held-out clips.
        precision: what the model computes in; its weights are float32 in either case.

    Raises:
        InputError: the folder, its config or its weights are missing, damaged, or do not match each other.
    """
    config = load_config(Path(directory) / CONFIG_FILE, InbetweenConfig, part="inbetween")
    generator = nnx.eval_shape(lambda: Generator(config, rngs=nnx.Rngs(0)))
    load_weights(generator, Path(directory), which=which, prefix="generator")
    return InbetweenModel(in_precision(generator, precision), config)


def inbetween_errors(model: InbetweenModel, clips: Clips, max_clips: int = 64) -> dict[str, float]:
    """Mean L1 error of the inner frames of held-out clips, generated from their ends.

    Args:
        model: the model to evaluate.
        clips: held-out clips.
        max_clips: number of clips to use at most, spread evenly over those that are long enough.

    Returns:
        `l1` for the model, `l1_first_frame` for repeating the first frame, and `l1_blend` for cross-fading.

    Raises:
        InputError: no clip is long enough.
    """
    truth = _openings(clips, model.num_frames, max_clips)
    first, last = truth[:, 0], truth[:, -1]
    guesses = {
        "l1": model(first, last),
        "l1_first_frame": first[:, None],
        "l1_blend": blend(first, last, model.num_frames),
    }
    inner = truth[:, 1:-1]
    return {
        name: float(score(guess if guess.shape[1] == 1 else guess[:, 1:-1], inner).l1.mean())
        for name, guess in guesses.items()
    }


def blend(first: Frames, last: Frames, num_frames: int) -> Float[np.ndarray, "b t h w c"]:
    """Cross-fade linearly from `first` to `last` over `num_frames` frames, ends included."""
    weight = np.linspace(0, 1, num_frames, dtype=np.float32)[None, :, None, None, None]
    return first[:, None] * (1 - weight) + last[:, None] * weight


def inbetween_panel(
    model: InbetweenModel, clips: Clips, num_clips: int = 4, num_columns: int = 8
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw frames of up to `num_clips` held-out clips, the true ones above the generated ones."""
    truth = _openings(clips, model.num_frames, num_clips)
    generated = model(truth[:, 0], truth[:, -1])
    times = np.unique(np.linspace(0, model.num_frames - 1, num_columns).round().astype(int))
    rows = [[frames[t] for t in times] for pair in zip(truth, generated, strict=True) for frames in pair]
    return panel(rows, [f"frame {t}" for t in times])


def _openings(clips: Clips, num_frames: int, max_clips: int) -> Float[np.ndarray, "b t h w c"]:
    """The first `num_frames` frames, in [0, 1], of clips spread evenly over those that are long enough."""
    shown = spread_long(clips.lengths, num_frames, max_clips)
    if not len(shown):
        raise InputError(f"no held-out clip has {num_frames} frames; the longest has {max(clips.lengths)}")
    return to_float(np.stack([clips.frames(clip, np.arange(num_frames)) for clip in shown]))


def _generate(generator: Generator, first: Array, last: Array, noise: Array) -> Float[Array, "b t h w c"]:
    return jnp.clip(generator(first, last, noise), 0, 1)
