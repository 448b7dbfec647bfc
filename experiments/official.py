"""Training configurations from the YAML files of the published First Order Motion Model code.

`experiments.animate` and `experiments.reconstruct` read the parts of these files that are meant for them with the
functions here.
"""

import dataclasses
import operator
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from experiments.configs import FOMMTrainOptions, TrainFOMMConfig
from experiments.optimizers import AdamConfig, OptimizerConfig
from experiments.options import DataOptions
from experiments.schedule import ScheduleConfig
from vidcomp_jax.data import AugmentationConfig, FolderConfig
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.losses import FOMMLossConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official import MODEL_KEYS, OfficialFile, by_key, differing_key, read_official
from vidcomp_jax.fomm.official_sections import (
    AugmentationParams,
    DatasetParams,
    JitterParams,
    TrainParams,
    VisualizerParams,
)
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.nn.geometry import RandomWarpConfig

VideoFormat = Literal[".mp4", ".gif"]
"""Formats of the videos that are written."""
_AUGMENTATION, _WEIGHTS = "dataset_params.augmentation_params", "train_params.loss_weights"
KEYS = {
    "size": "dataset_params.frame_shape",
    "seed": "dataset_params.random_seed",
    "rotation": f"{_AUGMENTATION}.rotation_param.degrees",
    "resize": f"{_AUGMENTATION}.resize_param.ratio",
    "crop": f"{_AUGMENTATION}.crop_param.size",
    **{name: f"{_AUGMENTATION}.jitter_param.{name}" for name in ("brightness", "contrast", "saturation", "hue")},
    **{name: f"train_params.{name}" for name in ("num_epochs", "num_repeats", "batch_size", "scales")},
    "checkpoint_epochs": "train_params.checkpoint_freq",
    "points_thin_plate": "train_params.transform_params.points_tps",
    **{name: f"{_WEIGHTS}.{name}" for name in ("generator_gan", "discriminator_gan", "perceptual")},
    "equivariance_position": f"{_WEIGHTS}.equivariance_value",
    "equivariance_jacobian": f"{_WEIGHTS}.equivariance_jacobian",
    "num_pairs": "animate_params.num_pairs",
    "keypoint_size": "visualizer_params.kp_size",
    "colormap": "visualizer_params.colormap",
}
"""For fields of our configurations, the keys that give their values; learning rates apart."""
UNUSED = ("dataset_params.pairs_list", "reconstruction_params", "animate_params")
"""What training does not read; there and here, other modes do."""


def train_config(path: Path) -> TrainFOMMConfig:
    """The configuration of `experiments.train_fomm` that an official YAML file describes.

    Clips are read from a folder, `root_dir`. Keys that training does not use are printed in one line.

    Raises:
        InputError: the file is not an official configuration, or a value is impossible; names the file and the key.
    """
    file = read_official(path)
    fomm = file.model()
    dataset = file.section("dataset_params", DatasetParams)
    train = file.section("train_params", TrainParams)
    say_unused(file, "training", UNUSED)
    with file.named_in_errors(KEYS):
        return TrainFOMMConfig(
            dataset=path.stem,
            config=path,
            data=data_options(dataset, fomm),
            augmentation=augmentation(dataset.augmentation_params or AugmentationParams()),
            fomm=fomm,
            loss=_loss(train, fomm.discriminator.num_blocks),
            optimizer=OptimizerConfig(
                generator=_adam(train, "lr_generator"),
                detector=_adam(train, "lr_kp_detector"),
                discriminator=_adam(train, "lr_discriminator"),
            ),
            train=FOMMTrainOptions(
                num_steps=0,
                batch_size=train.batch_size,
                log_every=100,
                panel_every=None,
                checkpoint_every=None,
                evaluate_every=2000,
            ),
            schedule=ScheduleConfig(
                num_epochs=train.num_epochs,
                num_repeats=train.num_repeats,
                epoch_milestones=train.epoch_milestones,
                checkpoint_epochs=train.checkpoint_freq,
                panel_epochs=1,
            ),
            panel=panel_config(file, motions=True, equivariance=True),
        )


def frame_size(dataset: DatasetParams) -> int:
    """Height and width of the frames, which must be the same."""
    height, width, _ = dataset.frame_shape
    if height != width:
        raise InputError(f"dataset_params.frame_shape is {list(dataset.frame_shape)}; frames must be square")
    return height


def augmentation(params: AugmentationParams) -> AugmentationConfig:
    """The augmentation, with pairs of frames drawn as in the published code."""
    jitter, flip = params.jitter_param or JitterParams(), params.flip_param
    resize, crop, rotation = params.resize_param, params.crop_param, params.rotation_param
    size = crop.size if crop is not None else 0
    if not isinstance(size, int):
        if size[0] != size[1]:
            raise InputError(f"`crop` is {list(size)}; it must be square")
        size = size[0]
    degrees = rotation.degrees if rotation is not None else 0.0
    return AugmentationConfig(
        horizontal_flip=flip is not None and flip.horizontal_flip,
        time_flip=flip is not None and flip.time_flip,
        exclusive_flips=True,
        equal_frames=True,
        rotation=degrees if isinstance(degrees, tuple) else (-degrees, degrees),
        resize=resize.ratio if resize is not None else (1.0, 1.0),
        interpolation=resize.interpolation if resize is not None else "nearest",
        crop=size,
        brightness=jitter.brightness,
        contrast=jitter.contrast,
        saturation=jitter.saturation,
        hue=jitter.hue,
    )


def say_unused(file: OfficialFile, purpose: str, names: Sequence[str]) -> None:
    """Print in one line which of these sections and keys are in the file, but not used for a purpose."""
    if found := [name for name in names if _has(file, name)]:
        print(f"{file.path}: not used in {purpose}: {', '.join(found)}", flush=True)


def video_format(given: str, key: str) -> VideoFormat:
    """The ending of videos that a key gives; `InputError` if it is none that can be written."""
    if given not in typing.get_args(VideoFormat):
        raise InputError(f"{key} is {given!r}; it must be {' or '.join(typing.get_args(VideoFormat))}")
    return cast(VideoFormat, given)


def check_model(path: Path, model: FOMMConfig, directory: Path) -> None:
    """Raise an `InputError` unless an official YAML file describes the model in a folder, but for its discriminator."""
    described = read_official(path).model()
    if key := differing_key(described, model):
        here, there = (operator.attrgetter(MODEL_KEYS[key])(config) for config in (described, model))
        raise InputError(f"{path}: model_params.{key} is {here}; the model in {directory} has {there}")


def _has(file: OfficialFile, name: str) -> bool:
    section, _, key = name.partition(".")
    content = file.content.get(section)
    return content is not None and (not key or content.get(key) is not None)


def data_options(dataset: DatasetParams, fomm: FOMMConfig) -> DataOptions:
    """The folder of videos, with square frames of as many channels as the model takes."""
    if dataset.frame_shape[2] != fomm.num_channels:
        raise InputError(
            f"dataset_params.frame_shape is {list(dataset.frame_shape)}, but common_params.num_channels is "
            f"{fomm.num_channels}; they must have the same number of channels"
        )
    return DataOptions(
        name="folder",
        data_dir=Path(dataset.root_dir),
        size=frame_size(dataset),
        num_channels=cast(Channels, fomm.num_channels),
        folder=FolderConfig(id_sampling=dataset.id_sampling, seed=dataset.random_seed),
    )


def _adam(train: TrainParams, key: str) -> AdamConfig:
    with by_key({"learning_rate": f"train_params.{key}"}):
        return AdamConfig(learning_rate=getattr(train, key))


def _loss(train: TrainParams, num_blocks: int) -> FOMMLossConfig:
    """The loss weights. As there, missing weights of VGG19's layers are 0, and those of further blocks are not used."""
    weights, warp = train.loss_weights, train.transform_params
    perceptual = weights.perceptual + (0.0,) * (5 - len(weights.perceptual))
    matching = weights.feature_matching
    if sum(matching) == 0:
        matching = (0.0,) * num_blocks
    if weights.generator_gan and len(matching) < num_blocks:
        raise InputError(
            f"{_WEIGHTS}.feature_matching has {len(matching)} weights; give one for each of the "
            f"model_params.discriminator_params.num_blocks, {num_blocks}"
        )
    affine = RandomWarpConfig(sigma_affine=warp.sigma_affine, sigma_thin_plate=0.0)
    if warp.sigma_tps is not None and warp.points_tps is not None:
        affine = dataclasses.replace(affine, sigma_thin_plate=warp.sigma_tps, points_thin_plate=warp.points_tps)
    return FOMMLossConfig(
        scales=train.scales,
        perceptual=perceptual,
        pyramid=FOMMLossConfig().pyramid if sum(perceptual) else 0.0,
        generator_gan=weights.generator_gan,
        discriminator_gan=weights.discriminator_gan,
        feature_matching=matching[:num_blocks] if weights.generator_gan else matching,
        equivariance_position=weights.equivariance_value,
        equivariance_jacobian=weights.equivariance_jacobian,
        warp=affine,
    )


def panel_config(file: OfficialFile, **changes: bool) -> PanelConfig:
    """How panels show keypoints; `changes` are further fields."""
    given = "visualizer_params" in file.content
    visualizer = file.section("visualizer_params", VisualizerParams) if given else VisualizerParams()
    return PanelConfig(
        keypoint_size=visualizer.kp_size, border=visualizer.draw_border, colormap=visualizer.colormap, **changes
    )
