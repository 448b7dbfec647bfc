"""Small networks, batches and warps for comparisons of training steps with PyTorch."""

from typing import Any

import numpy as np
from jaxtyping import Float

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
