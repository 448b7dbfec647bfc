"""Writes our training configurations as YAML files of the published code.

Input: the configuration of a run. Output: the content of the file, and notes on what the published code cannot do.
"""

import operator
from typing import Any

import msgspec

from experiments.configs import TrainFOMMConfig
from vidcomp_jax.data import AugmentationConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official import MODEL_KEYS
from vidcomp_jax.fomm.official_sections import AnimateParams, NormalizationParams, ReconstructionParams

RECONSTRUCTION = ReconstructionParams(num_videos=1000)
ANIMATION = AnimateParams(
    num_pairs=50, normalization_params=NormalizationParams(use_relative_movement=True, use_relative_jacobian=True)
)
"""What all published files say of the other modes."""


def official_content(config: TrainFOMMConfig, steps_per_epoch: int) -> tuple[dict[str, Any], list[str]]:
    """The content of an official YAML file for a run, and notes on what it does not say.

    Args:
        config: the run's configuration, with all durations in steps.
        steps_per_epoch: of the run, for durations in epochs.

    Raises:
        InputError: the published code has no such model.
    """
    if config.fomm.generator.full_resolution_skip:
        raise InputError(
            "the model has `generator.full_resolution_skip`, which the published code does not have; a model trained "
            "without it can be exported"
        )
    optimizer, loss, warp = config.optimizer, config.loss, config.loss.warp
    schedule, every = config.schedule, config.train.checkpoint_every
    content = {
        "dataset_params": {
            "root_dir": str(config.data.data_dir or "data"),
            "frame_shape": [config.data.size, config.data.size, config.data.num_channels],
            "id_sampling": config.data.folder.id_sampling,
            "random_seed": config.data.folder.seed,
            "augmentation_params": _augmentation(config.augmentation),
        },
        "model_params": _model(config.fomm),
        "train_params": {
            "num_epochs": -(-config.train.num_steps // steps_per_epoch),
            "num_repeats": schedule.num_repeats,
            "epoch_milestones": milestones_in_epochs(config, steps_per_epoch),
            "lr_generator": optimizer.generator.learning_rate,
            "lr_discriminator": optimizer.discriminator.learning_rate,
            "lr_kp_detector": optimizer.detector.learning_rate,
            "batch_size": config.train.batch_size,
            "scales": _scales(loss.scales),
            "checkpoint_freq": max(every // steps_per_epoch, 1) if every else 100,
            "transform_params": {
                "sigma_affine": warp.sigma_affine,
                "sigma_tps": warp.sigma_thin_plate,
                "points_tps": warp.points_thin_plate,
            },
            "loss_weights": {
                "generator_gan": loss.generator_gan,
                "discriminator_gan": loss.discriminator_gan,
                "feature_matching": list(loss.feature_matching),
                "perceptual": list(loss.perceptual),
                "equivariance_value": loss.equivariance_position,
                "equivariance_jacobian": loss.equivariance_jacobian if config.fomm.estimate_jacobian else 0,
            },
        },
        "reconstruction_params": msgspec.to_builtins(RECONSTRUCTION),
        "animate_params": msgspec.to_builtins(ANIMATION),
        "visualizer_params": {
            "kp_size": config.panel.keypoint_size or 5,
            "draw_border": config.panel.border,
            "colormap": config.panel.colormap,
        },
    }
    return content, _notes(config, steps_per_epoch)


def milestones_in_epochs(config: TrainFOMMConfig, steps_per_epoch: int) -> list[int]:
    """The generator's milestones, to the nearest epoch; the published code has one list for all networks."""
    return [round(milestone / steps_per_epoch) for milestone in config.optimizer.generator.milestones]


def _notes(config: TrainFOMMConfig, steps_per_epoch: int) -> list[str]:
    adams = config.optimizer.networks
    differences = {
        "the run has a cosine schedule, the file a constant learning rate": any(a.cosine_steps for a in adams),
        "the networks have different milestones, the file has the generator's": len({a.milestones for a in adams}) > 1,
        "milestones are rounded to whole epochs": any(m % steps_per_epoch for m in adams[0].milestones),
        "the run has no VGG19 weights, the published code always uses VGG19": config.perceptual_weights is None,
        "the published code draws pairs with replacement, and mirrors no pair that it has swapped": not (
            config.augmentation.exclusive_flips and config.augmentation.equal_frames
        ),
        f"the clips are those of {config.data.kind}; write them as videos, and set root_dir": config.data.kind
        != "folder",
        "the warps have align_corners=False, which needs PyTorch 1.3 or later": not config.fomm.align_corners,
    }
    return [note for note, holds in differences.items() if holds]


def _augmentation(config: AugmentationConfig) -> dict[str, Any]:
    content: dict[str, Any] = {"flip_param": {"horizontal_flip": config.horizontal_flip, "time_flip": config.time_flip}}
    if config.rotation != (0.0, 0.0):
        content["rotation_param"] = {"degrees": list(config.rotation)}
    if config.resizes:
        content["resize_param"] = {"ratio": list(config.resize), "interpolation": config.interpolation}
    if config.crop:
        content["crop_param"] = {"size": [config.crop, config.crop]}
    jitter = {name: getattr(config, name) for name in ("brightness", "contrast", "saturation", "hue")}
    if any(jitter.values()):
        content["jitter_param"] = jitter
    return content


def _scales(scales: tuple[float, ...]) -> list[float]:
    """Scales as the published code needs them: it names things after them, and knows no 1.0."""
    return [1 if scale == 1 else scale for scale in scales]


def _model(config: FOMMConfig) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, field in MODEL_KEYS.items():
        *sections, name = key.split(".")
        section = content
        for part in sections:
            section = section.setdefault(part, {})
        value = operator.attrgetter(field)(config)
        section[name] = _scales(value) if isinstance(value, tuple) else value
    return content
