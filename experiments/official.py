"""Training configurations from the YAML files of the published First Order Motion Model code."""

import dataclasses
from pathlib import Path
from typing import cast

from experiments.configs import FOMMTrainOptions, TrainFOMMConfig
from experiments.optimizers import AdamConfig, OptimizerConfig
from experiments.options import DataOptions
from experiments.schedule import ScheduleConfig
from vidcomp_jax.data import AugmentationConfig, FolderConfig
from vidcomp_jax.data.clips import Channels
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.losses import FOMMLossConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official import OfficialFile, plainly, read_official
from vidcomp_jax.fomm.official_sections import (
    AugmentationParams,
    DatasetParams,
    JitterParams,
    TrainParams,
    VisualizerParams,
)
from vidcomp_jax.media.panels import PanelConfig
from vidcomp_jax.nn.geometry import RandomWarpConfig

UNUSED = ("dataset_params.pairs_list", "reconstruction_params", "animate_params")
"""What training does not read; there and here, other commands do."""


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
    visualizer = file.section("visualizer_params", VisualizerParams) if "visualizer_params" in file.content else None
    if found := [name for name in UNUSED if _has(file, name)]:
        print(f"{path}: not used in training: {', '.join(found)}", flush=True)
    try:
        return TrainFOMMConfig(
            dataset=path.stem,
            config=path,
            data=_data(dataset, fomm),
            augmentation=augmentation(dataset.augmentation_params or AugmentationParams()),
            fomm=fomm,
            loss=_loss(train, fomm.discriminator.num_blocks),
            optimizer=OptimizerConfig(
                generator=AdamConfig(learning_rate=train.lr_generator),
                detector=AdamConfig(learning_rate=train.lr_kp_detector),
                discriminator=AdamConfig(learning_rate=train.lr_discriminator),
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
            panel=_panel(visualizer or VisualizerParams()),
        )
    except InputError as error:
        raise InputError(f"{path}: {plainly(error)}") from None


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
            raise InputError(f"dataset_params.augmentation_params.crop_param.size is {list(size)}; it must be square")
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


def _has(file: OfficialFile, name: str) -> bool:
    section, _, key = name.partition(".")
    content = file.content.get(section)
    return content is not None and (not key or content.get(key) is not None)


def _data(dataset: DatasetParams, fomm: FOMMConfig) -> DataOptions:
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


def _loss(train: TrainParams, num_blocks: int) -> FOMMLossConfig:
    """The loss weights. As there, missing weights of VGG19's layers are 0, and those of further blocks are not used."""
    weights, warp = train.loss_weights, train.transform_params
    perceptual = weights.perceptual + (0.0,) * (5 - len(weights.perceptual))
    matching = weights.feature_matching
    if sum(matching) == 0:
        matching = (0.0,) * num_blocks
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


def _panel(visualizer: VisualizerParams) -> PanelConfig:
    return PanelConfig(
        keypoint_size=visualizer.kp_size,
        border=visualizer.draw_border,
        colormap=visualizer.colormap,
        motions=True,
        equivariance=True,
    )
