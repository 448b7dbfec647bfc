"""Converts the configurations of official FOMM checkpoints to ours.

Input: the name of a released configuration, or an official YAML file. Output: our configuration.

The YAML files are those of the published code (Siarohin et al., First Order Motion Model for Image Animation,
NeurIPS 2019): the sizes of the networks are under `model_params`, that of the frames under `dataset_params`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from vidcomp_jax.data import DataConfig
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.errors import InputError, one_line
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.model import FOMMConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertedFOMM:
    """The contents of `config.json` of a converted model."""

    fomm: FOMMConfig
    """Sizes of the networks."""
    data: DataConfig
    """Size and channels of the frames that it was trained on."""


class _Params(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base class of the YAML sections. Unknown entries are errors, because they may change the network."""


class _Common(_Params):
    num_kp: int
    num_channels: int
    estimate_jacobian: bool = False


class _Detector(_Params):
    temperature: float
    block_expansion: int
    max_features: int
    num_blocks: int
    scale_factor: float = 1
    single_jacobian_map: bool = False


class _DenseMotion(_Params):
    block_expansion: int
    max_features: int
    num_blocks: int
    scale_factor: float = 1
    kp_variance: float = 0.01


class _Generator(_Params):
    block_expansion: int
    max_features: int
    num_down_blocks: int
    num_bottleneck_blocks: int
    dense_motion_params: _DenseMotion
    estimate_occlusion_map: bool = False


class _Discriminator(_Params):
    block_expansion: int
    max_features: int
    num_blocks: int
    scales: tuple[float, ...] = (1.0,)
    sn: bool = False
    use_kp: bool = False
    kp_variance: float = 0.01


class _ModelParams(_Params):
    common_params: _Common
    kp_detector_params: _Detector
    generator_params: _Generator
    discriminator_params: _Discriminator


def fomm_config(model_params: Mapping[str, Any]) -> FOMMConfig:
    """Convert the `model_params` of an official YAML file to our configuration.

    Raises:
        InputError: an entry is missing, unknown, or of the wrong type.
    """
    try:
        params = msgspec.convert(model_params, _ModelParams)
    except msgspec.ValidationError as error:
        raise InputError(f"model_params: {error}".replace("`$.", "`")) from None
    common, detector, generator = params.common_params, params.kp_detector_params, params.generator_params
    dense_motion, discriminator = generator.dense_motion_params, params.discriminator_params
    return FOMMConfig(
        num_channels=common.num_channels,
        num_keypoints=common.num_kp,
        estimate_jacobian=common.estimate_jacobian,
        estimate_occlusion=generator.estimate_occlusion_map,
        detector=KeypointDetectorConfig(
            width=detector.block_expansion,
            max_width=detector.max_features,
            num_blocks=detector.num_blocks,
            scale=detector.scale_factor,
            temperature=detector.temperature,
            single_jacobian=detector.single_jacobian_map,
        ),
        dense_motion=DenseMotionConfig(
            width=dense_motion.block_expansion,
            max_width=dense_motion.max_features,
            num_blocks=dense_motion.num_blocks,
            scale=dense_motion.scale_factor,
            heatmap_variance=dense_motion.kp_variance,
        ),
        generator=GeneratorConfig(
            width=generator.block_expansion,
            max_width=generator.max_features,
            num_down_blocks=generator.num_down_blocks,
            num_bottleneck_blocks=generator.num_bottleneck_blocks,
        ),
        discriminator=DiscriminatorConfig(
            width=discriminator.block_expansion,
            max_width=discriminator.max_features,
            num_blocks=discriminator.num_blocks,
            scales=discriminator.scales,
            spectral_norm=discriminator.sn,
            use_keypoints=discriminator.use_kp,
            heatmap_variance=discriminator.kp_variance,
        ),
    )


def converted(fomm: FOMMConfig, size: int) -> ConvertedFOMM:
    """The contents of `config.json` for a model of square frames of `size` pixels."""
    num_channels = cast(Channels, fomm.num_channels)
    return ConvertedFOMM(fomm=fomm, data=DataConfig(name="folder", size=size, num_channels=num_channels))


def _released() -> dict[str, ConvertedFOMM]:
    plain = FOMMConfig()
    spectral = FOMMConfig(discriminator=DiscriminatorConfig(spectral_norm=True))
    keypoints = FOMMConfig(discriminator=DiscriminatorConfig(use_keypoints=True))
    gray = FOMMConfig(
        num_channels=1, detector=KeypointDetectorConfig(scale=0.5), dense_motion=DenseMotionConfig(scale=0.5)
    )
    one_jacobian = dataclasses.replace(spectral, detector=KeypointDetectorConfig(single_jacobian=True))
    return {
        "vox-256": converted(spectral, 256),
        "vox-adv-256": converted(keypoints, 256),
        "taichi-256": converted(plain, 256),
        "taichi-adv-256": converted(keypoints, 256),
        "fashion-256": converted(plain, 256),
        "mgif-256": converted(one_jacobian, 256),
        "nemo-256": converted(spectral, 256),
        "bair-256": converted(spectral, 256),
        "kth-128": converted(gray, 128),
    }


RELEASED: dict[str, ConvertedFOMM] = _released()
"""Configurations of the released checkpoints, by name."""


def official_config(name: str) -> ConvertedFOMM:
    """The configuration of a released checkpoint, or of an official YAML file.

    Raises:
        InputError: the name is unknown, or the file is missing, is not YAML, or is not an official configuration.
    """
    if name in RELEASED:
        return RELEASED[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise InputError(f"--config={name}: neither a YAML file nor a released name; those are {', '.join(RELEASED)}")
    content = _read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("model_params"), dict):
        raise InputError(f"{path}: has no entry model_params; an official FOMM configuration was expected")
    try:
        fomm = fomm_config(content["model_params"])
        return converted(fomm, _frame_size(content))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise InputError("YAML files need PyYAML; install it with `pip install 'vidcomp_jax[torch]'`") from None
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({one_line(error)})") from None


def _frame_size(content: dict[str, Any]) -> int:
    """Height and width of the frames that a configuration trains on; the published code's default if not specified."""
    dataset = content.get("dataset_params")
    shape = dataset.get("frame_shape", (256, 256)) if isinstance(dataset, dict) else (256, 256)
    try:
        height, width, *_ = shape
        square = int(height) == int(width)
    except (TypeError, ValueError):
        raise InputError(f"dataset_params.frame_shape is {shape}; height, width and channels were expected") from None
    if not square:
        raise InputError(f"dataset_params.frame_shape is {shape}; frames must be square")
    return int(height)
