"""Small networks, batches and warps for comparisons of training steps with PyTorch, and the steps of run folders."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float

from converters.fomm_state import dump_fomm_state
from experiments.configs import TrainFOMMConfig
from vidcomp_jax.devices import replicate, shard
from vidcomp_jax.fomm.losses import TrainingNetworks, fomm_losses
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.nn.geometry import RandomWarp
from vidcomp_jax.storage.checkpoint import load_checkpoint
from vidcomp_jax.storage.config import CONFIG_FILE, load_config
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices

SIZE, BATCH = 32, 4

_HOURGLASS = {"block_expansion": 8, "max_features": 32, "num_blocks": 1, "scale_factor": 0.5}
MODEL: dict[str, Any] = {
    "common_params": {"num_kp": 3, "num_channels": 1, "estimate_jacobian": True},
    # The published temperature of 0.1 multiplies rounding errors by ten; the golden files cover it.
    "kp_detector_params": {**_HOURGLASS, "temperature": 1.0},
    "generator_params": {
        "block_expansion": 8,
        "max_features": 32,
        "num_down_blocks": 1,
        "num_bottleneck_blocks": 1,
        "estimate_occlusion_map": True,
        "dense_motion_params": _HOURGLASS,
    },
    "discriminator_params": {
        "scales": [1],
        "block_expansion": 8,
        "max_features": 32,
        "num_blocks": 2,
        "sn": True,
        "use_kp": True,
    },
}
TRAINING: dict[str, Any] = {
    "num_epochs": 9,
    "num_repeats": 1,
    "epoch_milestones": [2],
    "lr_kp_detector": 0,
    "batch_size": BATCH,
    "scales": [1, 0.5],
    "checkpoint_freq": 1,
    "loss_weights": {
        "generator_gan": 1,
        "discriminator_gan": 1,
        "feature_matching": [10, 10],
        "perceptual": [10, 10, 10, 10, 10],
        "equivariance_value": 10,
        "equivariance_jacobian": 10,
    },
}


def batch(seed: int) -> tuple[Float[np.ndarray, "b h w 1"], ...]:
    """Return smooth source and driving frames, and the affine and thin-plate parameters of one warp for each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wave = rng.uniform(1, 6, (6, 2, BATCH, 1, 1))
    frames = 0.5 + 0.07 * sum(np.sin(a[0] * x + a[1] * y + 5 * a[1]) for a in wave)
    later = 0.5 + 0.07 * sum(np.sin(a[0] * x + a[1] * y + 5 * a[1] + 0.6) for a in wave)
    affine = np.eye(2, 3) + 0.05 * rng.standard_normal((BATCH, 2, 3))
    control = 0.005 * rng.standard_normal((BATCH, 25))
    return tuple(a.astype(np.float32) for a in (frames[..., None], later[..., None], affine, control))


class Ours:
    """The compiled training step of a run folder."""

    def __init__(self, run):
        self.config = load_config(run / CONFIG_FILE, TrainFOMMConfig)
        networks = TrainingNetworks(FirstOrderMotionModel(self.config.fomm, rngs=nnx.Rngs(0)), self.config.loss)
        self.devices = jax.devices()[:1]
        tx = self.config.optimizer.build()
        # The gradient is kept beside the state of the optimizer.
        recorder = optax.GradientTransformation(
            lambda params: (tx.init(params), jax.tree.map(jnp.zeros_like, params)),
            lambda grads, state, params: (lambda new: (new[0], (new[1], grads)))(tx.update(grads, state[0], params)),
        )
        self.graphdef, self.constants, self.state = init_state(networks, recorder, self.devices)

        def objective(networks, batch, keys):
            total, metrics, _ = fomm_losses(networks, batch[0], batch[1], RandomWarp(*batch[2:]))
            return total, metrics

        self._step = map_over_devices(self.graphdef, gradient_step(recorder, objective), self.devices)

    def load(self, run):
        """Return the state of a run folder."""
        (opt_state, recorded) = self.state.opt_state
        state = load_checkpoint(self.state._replace(opt_state=opt_state), run)
        return replicate(state._replace(opt_state=(state.opt_state, recorded)), self.devices)

    def step(self, state, seed):
        """Return the new state and the metrics; the old state stays valid."""
        state = jax.tree.map(jnp.copy, state)
        return self._step(state, self.constants, shard(batch(seed), BATCH, self.devices), jax.random.key(0))

    def under_official_keys(self, params, stats):
        """Return arrays in the structure of the parameters under PyTorch's keys."""
        params, stats = jax.tree.map(np.asarray, (params, stats))
        model = nnx.merge(self.graphdef, params, stats, self.constants).model
        return {f"{part}.{key}": x for part, keys in dump_fomm_state(model).items() for key, x in keys.items()}

    def weights(self, state):
        return self.under_official_keys(state.params, state.batch_stats)
