"""The settings of the published YAML files, and folders of videos to train on with them."""

import copy
from typing import Any

import numpy as np
import yaml

from vidcomp_jax.media.video import VideoWriter

_JITTER = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.1)
_BASE: dict[str, Any] = {
    "dataset_params": {
        "root_dir": "data",
        "frame_shape": [256, 256, 3],
        "id_sampling": False,
        "augmentation_params": {
            "flip_param": {"horizontal_flip": True, "time_flip": True},
            "jitter_param": _JITTER,
        },
    },
    "model_params": {
        "common_params": {"num_kp": 10, "num_channels": 3, "estimate_jacobian": True},
        "kp_detector_params": {
            "temperature": 0.1,
            "block_expansion": 32,
            "max_features": 1024,
            "scale_factor": 0.25,
            "num_blocks": 5,
        },
        "generator_params": {
            "block_expansion": 64,
            "max_features": 512,
            "num_down_blocks": 2,
            "num_bottleneck_blocks": 6,
            "estimate_occlusion_map": True,
            "dense_motion_params": {
                "block_expansion": 64,
                "max_features": 1024,
                "num_blocks": 5,
                "scale_factor": 0.25,
            },
        },
        "discriminator_params": {"scales": [1], "block_expansion": 32, "max_features": 512, "num_blocks": 4},
    },
    "train_params": {
        "num_epochs": 100,
        "num_repeats": 1,
        "epoch_milestones": [60, 90],
        "lr_generator": 2.0e-4,
        "lr_discriminator": 2.0e-4,
        "lr_kp_detector": 2.0e-4,
        "batch_size": 36,
        "scales": [1, 0.5, 0.25, 0.125],
        "checkpoint_freq": 50,
        "transform_params": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points_tps": 5},
        "loss_weights": {
            "generator_gan": 1,
            "discriminator_gan": 1,
            "feature_matching": [10, 10, 10, 10],
            "perceptual": [10, 10, 10, 10, 10],
            "equivariance_value": 10,
            "equivariance_jacobian": 10,
        },
    },
    "reconstruction_params": {"num_videos": 1000, "format": ".mp4"},
    "animate_params": {
        "num_pairs": 50,
        "format": ".mp4",
        "normalization_params": {
            "adapt_movement_scale": False,
            "use_relative_movement": True,
            "use_relative_jacobian": True,
        },
    },
    "visualizer_params": {"kp_size": 5, "draw_border": True, "colormap": "gist_rainbow"},
}
_FLIPS = {"flip_param": {"horizontal_flip": True, "time_flip": True}}
_PEOPLE = {"dataset_params.id_sampling": True, "dataset_params.pairs_list": "data/pairs.csv"}
_SPECTRAL = {"model_params.discriminator_params.sn": True}
_PLAIN = {"train_params.loss_weights.generator_gan": 0}
_ADVERSARIAL = {
    "model_params.discriminator_params.use_kp": True,
    "train_params.num_epochs": 150,
    "train_params.epoch_milestones": [],
}
_AUGMENTATION = "dataset_params.augmentation_params"
_DIFFERENCES: dict[str, dict[str, Any]] = {
    "vox-256": _PEOPLE | _SPECTRAL | _PLAIN | {"train_params.num_repeats": 75, "train_params.batch_size": 40},
    "vox-adv-256": _PEOPLE | _ADVERSARIAL | {"train_params.num_repeats": 75},
    "taichi-256": _PEOPLE | _PLAIN | {"train_params.num_repeats": 150, "train_params.batch_size": 30},
    "taichi-adv-256": _PEOPLE
    | _ADVERSARIAL
    | {"train_params.num_repeats": 150, "train_params.batch_size": 27, "train_params.lr_kp_detector": 0},
    "fashion-256": {
        _AUGMENTATION: _FLIPS | {"jitter_param": {"hue": 0.1}},
        "train_params.num_repeats": 50,
        "train_params.batch_size": 27,
    },
    "mgif-256": _SPECTRAL
    | {
        _AUGMENTATION: _FLIPS
        | {
            "jitter_param": {"hue": 0.5},
            "resize_param": {"ratio": [0.9, 1.1]},
            "crop_param": {"size": [256, 256]},
        },
        "model_params.kp_detector_params.single_jacobian_map": True,
        "train_params.num_repeats": 25,
        "train_params.checkpoint_freq": 100,
    },
    "nemo-256": _SPECTRAL | {_AUGMENTATION: _FLIPS, "train_params.num_repeats": 8},
    "bair-256": _SPECTRAL
    | {
        "train_params.num_epochs": 20,
        "train_params.epoch_milestones": [12, 18],
        "train_params.checkpoint_freq": 10,
    },
    "kth-128": _PLAIN
    | {
        "dataset_params.frame_shape": [128, 128, 1],
        "model_params.common_params.num_channels": 1,
        "model_params.kp_detector_params.scale_factor": 0.5,
        "model_params.generator_params.dense_motion_params.scale_factor": 0.5,
        "train_params.num_repeats": 30,
        "train_params.batch_size": 50,
        "train_params.checkpoint_freq": 3,
    },
}
NAMES = tuple(_DIFFERENCES)


def official(name: str, **changes) -> dict[str, Any]:
    """Return the content of a published YAML file; `changes` have dotted keys with __ for the dots."""
    content = copy.deepcopy(_BASE)
    for key, value in (_DIFFERENCES[name] | {k.replace("__", "."): v for k, v in changes.items()}).items():
        *sections, last = key.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[last] = copy.deepcopy(value)
    return content


def write_official(path, name, **changes):
    path.write_text(yaml.safe_dump(official(name, **changes)))
    return path


def write_videos(folder, train=3, test=1, frames=4):
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            with VideoWriter(folder / split / f"{i}.mp4", fps=10.0, lossless=True) as video:
                video.write(rng.integers(0, 255, (frames, 32, 32, 1), np.uint8))
    return folder
