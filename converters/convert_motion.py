"""Convert the PyTorch weights of a motion network to a folder that `--motion-model` accepts.

    python -m converters.convert_motion netG_epoch_N.pth --output=wgan/ --motion=motion.npz

Two networks of the public repository xih108/Video_Completion are supported and told apart by their keys: the generator
of the motion GAN, optionally with its critic, and the next-frame network. They are sampled by that project's rules. A
file holds a state dict, or a dict with one under `model_state_dict`. It does not record which keypoint model the
motion came from or how its Jacobians were scaled; a motion file or two options do.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import tyro
from flax import nnx

from converters.torch_files import read_torch_file, unwrap
from converters.weight_map import State, differences, load_state
from experiments.commands import run
from vidcomp_jax.errors import InputError, require
from vidcomp_jax.fomm.loading import fingerprint, load_fomm
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion
from vidcomp_jax.motion.loading import TrainedOn
from vidcomp_jax.motion.motion_file import MotionClips
from vidcomp_jax.motion.vectors import JacobianLimits, Order, measure_limits
from vidcomp_jax.motion.wgan import MotionCritic, MotionGAN, WGANConfig
from vidcomp_jax.storage.checkpoint import save_model
from vidcomp_jax.storage.folders import check_output_folder

_WRAPPED = "model_state_dict"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertMotionConfig:
    """Convert a motion network."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The file of the generator, or of the next-frame network."""
    output: Path
    """Folder to write."""
    critic: Path | None = None
    """File of the generator's critic, to be stored with it; not needed to complete clips."""
    motion: Path | None = None
    """Motion file of the training split (experiments.extract_motion); gives the keypoint model and Jacobian range."""
    fomm: Path | None = None
    """Without --motion: model folder or training run of the keypoint model."""
    jacobian_limits: tuple[float, float] | None = None
    """Without --motion: smallest and largest Jacobian entry of the training split."""
    order: Order | None = None
    """Which part of a motion vector comes first; by default as there, position-first for the GAN and jacobian-first
    for the next-frame network."""
    overwrite: bool = False
    """Replace the folder if it exists."""

    def __post_init__(self):
        if self.motion is not None:
            for field in ("fomm", "jacobian_limits"):
                require(getattr(self, field) is None, self, field, "left out where `motion` is given, which says it")
        if self.jacobian_limits is not None:
            low, high = self.jacobian_limits
            require(low < high, self, "jacobian_limits", "two numbers, the first below the second")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ConvertedGAN:
    trained_on: TrainedOn
    wgan: WGANConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ConvertedNextFrame:
    trained_on: TrainedOn
    autoregressive: AutoregressiveConfig


def main(config: ConvertMotionConfig) -> None:
    """Convert the network, and print what is not known about it."""
    check_output_folder(config.output, "model", overwrite=config.overwrite)
    state, notes = _read(config.checkpoint)
    network = _recognize(state, config.checkpoint)
    if network == "autoregressive" and config.critic is not None:
        raise InputError(f"--critic: {config.checkpoint} is a next-frame network, which has none")
    limits, source, num_keypoints = _keypoints(config)
    if network == "wgan":
        motion: MotionGAN | AutoregressiveMotion = _gan(state, config, limits)
        if config.critic is None:
            notes.append("no critic given: its weights are random, which does not matter for completing clips")
    else:
        motion = _next_frame(state, config, limits)
    if num_keypoints not in (None, motion.num_keypoints):
        raise InputError(
            f"{config.checkpoint}: a network for {motion.num_keypoints} keypoints; "
            f"{config.motion or config.fomm} has {num_keypoints}"
        )
    trained_on = TrainedOn(method=network, fingerprint=source, num_keypoints=motion.num_keypoints)
    stored = {"wgan": _ConvertedGAN, "autoregressive": _ConvertedNextFrame}[network]
    described = stored(trained_on=trained_on, **{network: motion.config})
    save_model(config.output, motion, described, replace=True)
    print(f"{config.output}: {network}, {motion.num_keypoints} keypoints")
    if not source:
        notes.append("its keypoint model is not known, and no frames can be completed: give --motion, or --fomm")
    if limits is None:
        notes.append("the range of its Jacobians is not known, -1 to 1 is taken: give --motion, or --jacobian-limits")
    for note in notes:
        print(f"  {note}")


def _read(path: Path) -> tuple[State, list[str]]:
    """The state dict in a file, either bare or under `model_state_dict`, with notes on what was left out."""
    content = read_torch_file(path)
    if _WRAPPED not in content:
        return unwrap(content), []
    if not isinstance(content[_WRAPPED], dict):
        raise InputError(f"{path}: its {_WRAPPED} is a {type(content[_WRAPPED]).__name__}, not a state dict")
    others = [name for name in content if name not in (_WRAPPED, "epoch")]
    return unwrap(content[_WRAPPED]), [f"left out: {', '.join(others)}"] if others else []


def _recognize(state: State, path: Path) -> Literal["wgan", "autoregressive"]:
    if "motion_encoder.0.weight" in state and "gru.weight_hh_l0" in state:
        return "wgan"
    if "bi_gru.weight_hh_l0" in state and "bi_gru.weight_ih_l0" in state:
        return "autoregressive"
    critic = "; a critic is given as --critic, beside the generator" if "gru.weight_hh_l0" in state else ""
    found = ", ".join(list(state)[:6]) or "no arrays"
    raise InputError(f"{path}: neither the motion GAN's generator nor the next-frame network{critic}; found {found}")


def _keypoints(config: ConvertMotionConfig) -> tuple[JacobianLimits | None, str, int | None]:
    """Jacobian limits, fingerprint and number of keypoints, as far as they are known."""
    if config.motion is not None:
        clips = MotionClips.load(config.motion)
        if clips.split != "train":
            raise InputError(f"{config.motion}: motion of the {clips.split} split; give that of the train split")
        return measure_limits(clips.keypoints.jacobian), clips.fingerprint, clips.num_keypoints
    limits = None
    if config.jacobian_limits is not None:
        limits = JacobianLimits(*map(jnp.float32, config.jacobian_limits))
    if config.fomm is None:
        return limits, "", None
    model = load_fomm(config.fomm)
    return limits, fingerprint(model), model.config.num_keypoints


def _gan(state: State, config: ConvertMotionConfig, limits: JacobianLimits | None) -> MotionGAN:
    encoding, vector = _matrix(state, "motion_encoder.0.weight", config.checkpoint)
    _, inputs = _matrix(state, "gru.weight_ih_l0", config.checkpoint)
    _, hidden = _matrix(state, "gru.weight_hh_l0", config.checkpoint)
    sizes = WGANConfig(
        hidden=hidden,
        encoding=encoding,
        noise=inputs - 2 * encoding,
        order=config.order or "position-first",
        variant="video-completion",
    )
    gan = MotionGAN(sizes, _num_keypoints(vector, config.checkpoint), limits=limits, rngs=nnx.Rngs(0))
    load_state(gan.generator, state, name=str(config.checkpoint))
    if config.critic is not None:
        critic, _ = _read(config.critic)
        _load_critic(gan.critic, critic, config.critic)
    return gan


def _load_critic(critic: MotionCritic, state: State, path: Path) -> None:
    if differences(critic, state) and "motion_encoder.0.weight" in state:
        raise InputError(f"{path}: a generator; --critic takes the file of its critic")
    load_state(critic, state, name=str(path))


def _next_frame(state: State, config: ConvertMotionConfig, limits: JacobianLimits | None) -> AutoregressiveMotion:
    _, vector = _matrix(state, "bi_gru.weight_ih_l0", config.checkpoint)
    _, hidden = _matrix(state, "bi_gru.weight_hh_l0", config.checkpoint)
    if config.order == "position-first":
        sizes = AutoregressiveConfig(hidden=hidden, share_directions=True, order=config.order)
    else:
        sizes = AutoregressiveConfig(hidden=hidden, variant="video-completion")
        if config.motion is not None:
            limits = measure_limits(MotionClips.load(config.motion).keypoints.jacobian, per_entry=True)
        elif limits is not None:
            limits = JacobianLimits(*(jnp.full(vector // 6 * 4, bound) for bound in limits))
    motion = AutoregressiveMotion(sizes, _num_keypoints(vector, config.checkpoint), limits=limits, rngs=nnx.Rngs(0))
    load_state(motion.model, state, name=str(config.checkpoint))
    return motion


def _matrix(state: State, key: str, path: Path) -> tuple[int, int]:
    value: Any = state.get(key)
    if value is None or value.ndim != 2:
        raise InputError(f"{path}: {key} is {'missing' if value is None else value.shape}; a matrix was expected")
    return value.shape


def _num_keypoints(vector: int, path: Path) -> int:
    if vector % 6:
        raise InputError(f"{path}: motion vectors of {vector} entries; six for every keypoint were expected")
    return vector // 6


if __name__ == "__main__":
    run(main, ConvertMotionConfig)
