"""The sections of the published code's YAML configurations, as typed structures.

Keys, types and defaults are those of the First Order Motion Model's code (Siarohin et al., NeurIPS 2019).
"""

from typing import Literal

import msgspec


class Params(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base class of the YAML sections. Unknown keys are errors, because a misspelt one would be lost silently."""


class CommonParams(Params):
    """Settings that the detector, the generator and the discriminator share."""

    num_kp: int
    num_channels: int
    estimate_jacobian: bool = False


class DetectorParams(Params):
    """Sizes of the keypoint detector."""

    temperature: float
    block_expansion: int
    max_features: int
    num_blocks: int
    scale_factor: float = 1
    single_jacobian_map: bool = False
    pad: Literal[0] = 0


class DenseMotionParams(Params):
    """Sizes of the dense-motion network."""

    block_expansion: int
    max_features: int
    num_blocks: int
    scale_factor: float = 1
    kp_variance: float = 0.01


class GeneratorParams(Params):
    """Sizes of the generator and of the dense-motion network in it."""

    block_expansion: int
    max_features: int
    num_down_blocks: int
    num_bottleneck_blocks: int
    dense_motion_params: DenseMotionParams
    estimate_occlusion_map: bool = False


class DiscriminatorParams(Params):
    """Sizes of the discriminator."""

    block_expansion: int
    max_features: int
    num_blocks: int
    scales: tuple[float, ...] = (1.0,)
    sn: bool = False
    use_kp: bool = False
    kp_variance: float = 0.01


class ModelParams(Params):
    """The section `model_params`."""

    common_params: CommonParams
    kp_detector_params: DetectorParams
    generator_params: GeneratorParams
    discriminator_params: DiscriminatorParams


class FlipParams(Params):
    """Random flips."""

    time_flip: bool = False
    horizontal_flip: bool = False


class JitterParams(Params):
    """Random changes of color."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


class ResizeParams(Params):
    """Random resizing."""

    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["nearest", "bilinear"] = "nearest"


class CropParams(Params):
    """Random crops."""

    size: int | tuple[int, int]


class RotationParams(Params):
    """Random rotation."""

    degrees: float | tuple[float, float]


class AugmentationParams(Params):
    """Augmentation of the training pairs; what is missing is not done."""

    flip_param: FlipParams | None = None
    rotation_param: RotationParams | None = None
    resize_param: ResizeParams | None = None
    crop_param: CropParams | None = None
    jitter_param: JitterParams | None = None


class DatasetParams(Params):
    """The section `dataset_params`."""

    root_dir: str
    frame_shape: tuple[int, int, int] = (256, 256, 3)
    id_sampling: bool = False
    random_seed: int = 0
    pairs_list: str | None = None
    augmentation_params: AugmentationParams | None = None


class TransformParams(Params):
    """The random warp of the equivariance losses."""

    sigma_affine: float
    sigma_tps: float | None = None
    points_tps: int | None = None


class LossWeights(Params):
    """Weights of the loss terms."""

    generator_gan: float
    discriminator_gan: float
    feature_matching: tuple[float, ...]
    perceptual: tuple[float, ...]
    equivariance_value: float
    equivariance_jacobian: float


class TrainParams(Params):
    """The section `train_params`."""

    num_epochs: int
    epoch_milestones: tuple[int, ...]
    lr_generator: float
    lr_discriminator: float
    lr_kp_detector: float
    batch_size: int
    scales: tuple[float, ...]
    checkpoint_freq: int
    transform_params: TransformParams
    loss_weights: LossWeights
    num_repeats: int = 1


class VisualizerParams(Params):
    """The section `visualizer_params`."""

    kp_size: float = 5
    draw_border: bool = False
    colormap: str = "gist_rainbow"


class NormalizationParams(Params):
    """How driving keypoints are transferred to the source. Without relative movement, the other two mean nothing."""

    adapt_movement_scale: bool = False
    use_relative_movement: bool = False
    use_relative_jacobian: bool = False


class AnimateParams(Params):
    """The section `animate_params`."""

    num_pairs: int
    format: str = ".mp4"
    normalization_params: NormalizationParams = msgspec.field(default_factory=NormalizationParams)


class ReconstructionParams(Params):
    """The section `reconstruction_params`."""

    num_videos: int | None = None
    format: str = ".mp4"


SECTIONS: dict[str, type[Params]] = {
    "dataset_params": DatasetParams,
    "model_params": ModelParams,
    "train_params": TrainParams,
    "reconstruction_params": ReconstructionParams,
    "animate_params": AnimateParams,
    "visualizer_params": VisualizerParams,
}
"""The sections of a configuration, by name."""
