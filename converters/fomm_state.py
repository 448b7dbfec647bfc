"""How an official FOMM checkpoint divides over our model: three state dicts in, one filled model out, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.walker import State, differences, dump_state, load_state
from vidcomp_jax.dense_motion import DenseMotionConfig
from vidcomp_jax.discriminator import DiscriminatorConfig
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm import FirstOrderMotionModel, FOMMConfig
from vidcomp_jax.generator import GeneratorConfig
from vidcomp_jax.keypoints import KeypointDetectorConfig

_DENSE_MOTION = "dense_motion_network."


def fomm_config(model_params: Mapping[str, Any]) -> FOMMConfig:
    """Our configuration of what the official YAML files hold under `model_params`."""
    common = model_params["common_params"]
    detector = model_params["kp_detector_params"]
    generator = model_params["generator_params"]
    dense_motion = generator["dense_motion_params"]
    discriminator = model_params["discriminator_params"]
    return FOMMConfig(
        num_channels=common["num_channels"],
        num_keypoints=common["num_kp"],
        estimate_jacobian=common.get("estimate_jacobian", False),
        estimate_occlusion=generator.get("estimate_occlusion_map", False),
        detector=KeypointDetectorConfig(
            width=detector["block_expansion"],
            max_width=detector["max_features"],
            num_blocks=detector["num_blocks"],
            scale=float(detector.get("scale_factor", 1)),
            temperature=detector["temperature"],
            single_jacobian=detector.get("single_jacobian_map", False),
        ),
        dense_motion=DenseMotionConfig(
            width=dense_motion["block_expansion"],
            max_width=dense_motion["max_features"],
            num_blocks=dense_motion["num_blocks"],
            scale=float(dense_motion.get("scale_factor", 1)),
            heatmap_variance=dense_motion.get("kp_variance", 0.01),
        ),
        generator=GeneratorConfig(
            width=generator["block_expansion"],
            max_width=generator["max_features"],
            num_down_blocks=generator["num_down_blocks"],
            num_bottleneck_blocks=generator["num_bottleneck_blocks"],
        ),
        discriminator=DiscriminatorConfig(
            width=discriminator["block_expansion"],
            max_width=discriminator["max_features"],
            num_blocks=discriminator["num_blocks"],
            scales=tuple(float(scale) for scale in discriminator.get("scales", (1,))),
            spectral_norm=discriminator.get("sn", False),
            use_keypoints=discriminator.get("use_kp", False),
        ),
    )


def _parts(model: FirstOrderMotionModel) -> dict[str, dict[str, Any]]:
    """Part of a checkpoint -> prefix of its keys -> the module that holds them."""
    return {
        "generator": {_DENSE_MOTION: model.dense_motion, "": model.generator},
        "kp_detector": {"": model.detector},
        "discriminator": {"": model.discriminator},
    }


def _share(state: State, prefix: str, others: list[str]) -> dict[str, np.ndarray]:
    taken = {k: v for k, v in state.items() if k.startswith(prefix) and not any(k.startswith(o) for o in others if o)}
    return {k.removeprefix(prefix): v for k, v in taken.items()}


def load_fomm_state(model: FirstOrderMotionModel, checkpoint: Mapping[str, State]) -> list[str]:
    """Fill a model from `{"generator": ..., "kp_detector": ..., "discriminator": ...}`.

    The discriminator may be missing; it then keeps the model's weights.

    Returns:
        The parts that were missing.

    Raises:
        InputError: a part is missing, or keys or shapes differ; all differences are named, nothing is changed.
    """
    lines, jobs, missing = [], [], []
    for part, modules in _parts(model).items():
        if part not in checkpoint:
            if part == "discriminator":
                missing.append(part)
            else:
                lines.append(f"missing the whole part {part}")
            continue
        for prefix, module in modules.items():
            share = _share(checkpoint[part], prefix, [other for other in modules if other != prefix])
            lines += [f"{part}: {line}" for line in differences(module, share)]
            jobs.append((module, share))
    if lines:
        raise InputError(
            f"the checkpoint does not fit the configuration, {len(lines)} differences: " + "; ".join(lines)
        )
    for module, share in jobs:
        load_state(module, share)
    return missing


def dump_fomm_state(model: FirstOrderMotionModel) -> dict[str, dict[str, np.ndarray]]:
    """The model as the three state dicts of an official checkpoint."""
    return {
        part: {prefix + key: value for prefix, module in modules.items() for key, value in dump_state(module).items()}
        for part, modules in _parts(model).items()
    }
