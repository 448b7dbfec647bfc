"""Complete clips: `python -m experiments.complete --fomm=DIR --method=linear --input=CLIPS --output=OUT`.

Takes the first and the last frame of videos, pairs of images, or a data set's test clips, and writes the frames
between: a video and keypoints for each clip, method and sample, and `index.html`, which plays them side by side.
Methods over keypoints (linear, wgan, autoregressive) need --fomm, `inbetween` a run of `experiments.train_inbetween`,
`tfhub` a published TensorFlow Hub module.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, get_args

import jax
import numpy as np
import tyro

from experiments.commands import run
from experiments.configs import CONFIGS
from experiments.options import DataOptions
from vidcomp_jax.completion.complete import Completion, complete
from vidcomp_jax.completion.inputs import PAGE, Gap, find_gaps, gaps_of_clips
from vidcomp_jax.completion.outputs import check_rates, write_completions
from vidcomp_jax.data import DataConfig, open_clips
from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.fomm.between import MAX_PIXELS, Render
from vidcomp_jax.fomm.loading import check_trained_data, load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.inbetween.generation import InbetweenModel, load_inbetween
from vidcomp_jax.inbetween.tfhub import SIZE, HubModule
from vidcomp_jax.motion.loading import open_motions
from vidcomp_jax.storage.atomic import check_output_folder

Method = Literal["linear", "wgan", "autoregressive", "inbetween", "tfhub"]
"""Over keypoints, the first three; from pixels to pixels, the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompleteConfig:
    """Generate the frames between a first and a last one."""

    fomm: Path = Path("runs/fomm")
    """Model folder or training run of the First Order Motion Model; not needed by inbetween and tfhub."""
    method: tuple[Method, ...] = ("linear",)
    """How keypoints move; several methods are shown side by side."""
    motion_model: tuple[Path, ...] = ()
    """Training runs of the learned methods, one each."""
    inbetween: Path | None = None
    """Training run of the method inbetween."""
    module: str = ""
    """Module of the method tfhub: a folder, or a handle such as google/tweening_conv3d_kth/1."""
    which: Literal["latest", "best"] = "latest"
    """Which checkpoint of training runs."""
    input: tuple[Path, ...] = ()
    """Videos or folders of them, folders of images, or two images; without any, the test split of --dataset."""
    dataset: str = "synthetic"
    """Data settings of the test split: kth, bair, vox, taichi, fashion, mgif, nemo, folder or synthetic."""
    max_clips: int = 16
    """With --dataset: clips to complete."""
    any_data: bool = False
    """With --dataset: take other data settings than the keypoint model was trained with."""
    output: Path = Path("completed")
    """Folder to write."""
    overwrite: bool = False
    """Replace the folder if it exists."""
    num_frames: int = 16
    """Frames of each clip, both ends included."""
    samples: int = 3
    """Samples of each clip, for methods that have chance."""
    render: Render = "both"
    """From which ends frames are rendered."""
    format: Literal["mp4", "gif"] = "mp4"
    """Of the videos."""
    fps: float = 0.0
    """Frames a second; 0 takes those of the input, 25 for images."""
    seed: int = 0
    """Another seed gives other samples."""
    max_pixels: int = MAX_PIXELS
    """Most pixels rendered in one program; lower it where memory is short."""
    resize: int = 0
    """With --input: cut the middle square and resize it to this many pixels; 0 leaves frames as they are."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where clips come from without --input; with inbetween and tfhub alone, their frames have the size of these."""

    def __post_init__(self):
        require_at_least(self, num_frames=2, samples=1, max_clips=1, seed=0, resize=0, max_pixels=1, fps=0)
        require(self.method, self, "method", f"at least one of {', '.join(get_args(Method))}")


def main(config: CompleteConfig) -> None:
    """Complete, write, and say where."""
    check_output_folder(config.output, overwrite=config.overwrite, holds=PAGE)
    direct = open_direct(config)
    over_keypoints = [method for method in config.method if method not in direct]
    model = load_fomm(config.fomm, config.which) if over_keypoints else None
    if model and not config.input and not config.any_data:
        check_trained_data(config.fomm, config.data)
    motions = open_motions(over_keypoints, config.motion_model, model, which=config.which) if model else {}
    config = dataclasses.replace(config, data=frame_settings(config, model, direct))
    gaps = open_gaps(config)
    if "inbetween" in direct and (model is not None or not config.resize):
        check_frame_size(config, gaps[0], direct["inbetween"])
    first, last = (np.stack([end(gap) for gap in gaps]) for end in (lambda g: g.first, lambda g: g.last))
    results = {}
    for method in config.method:
        filler = direct.get(method) or motions[method]
        for sample in range(config.samples if filler.stochastic else 1):
            title = f"{method} {sample + 1}" if filler.stochastic else method
            key = jax.random.fold_in(jax.random.key(config.seed), sample)
            if method in direct:
                results[title] = Completion(filler(first, last, key=key), None)
                continue
            results[title] = complete(
                model,
                first,
                last,
                config.num_frames,
                motion=filler,
                key=key,
                render=config.render,
                max_pixels=config.max_pixels,
            )
    write_completions(config.output, gaps, results, format=config.format)
    for title, clips in results.items():
        errors = [np.abs(clips.frames[i] - g.truth).mean() for i, g in enumerate(gaps) if g.truth is not None]
        print(f"{title}: L1 to the truth {np.mean(errors):.4f}" if errors else f"{title}: no truth to compare with")
    print(f"{len(gaps)} clips of {config.num_frames} frames: look at {config.output / PAGE}")


def open_direct(config: CompleteConfig) -> dict[str, InbetweenModel | HubModule]:
    """The models of the methods that need no keypoints.

    Raises:
        InputError: the option that names one is missing, it cannot be read, or it makes clips of another length.
    """
    models: dict[str, InbetweenModel | HubModule] = {}
    if "inbetween" in config.method:
        if config.inbetween is None:
            raise InputError("method inbetween needs --inbetween=RUN, a run of experiments.train_inbetween")
        models["inbetween"] = load_inbetween(config.inbetween, config.which)
    if "tfhub" in config.method:
        if not config.module:
            raise InputError("method tfhub needs --module, a folder or a handle such as google/tweening_conv3d_kth/1")
        models["tfhub"] = HubModule(config.module)
    for method, model in models.items():
        if model.num_frames != config.num_frames:
            raise InputError(
                f"num_frames is {config.num_frames}, but {method} makes clips of {model.num_frames}; "
                f"give --num-frames={model.num_frames}"
            )
    return models


def frame_settings(
    config: CompleteConfig, fomm: FirstOrderMotionModel | None, direct: dict[str, InbetweenModel | HubModule]
) -> DataConfig:
    """Where clips come from, with frames as the models take them.

    The presets have the frames of the keypoint model. Without one, the others say: those that the in-between model
    was trained on, and for a module alone its size, and colour from files of one's own.

    Raises:
        InputError: a size asked for is not that of the in-between model, or models need different channels.
    """
    inbetween = direct.get("inbetween")
    if fomm is not None:
        channels = fomm.config.num_channels
        if inbetween is not None and inbetween.config.num_channels != channels:
            raise InputError(
                f"frames of {channels} channels for {config.fomm}, of {inbetween.config.num_channels} for "
                f"{config.inbetween}; complete with one of them at a time"
            )
        return dataclasses.replace(config.data, num_channels=channels) if config.input else config.data
    preset = PRESETS.get(config.dataset, config).data.size
    if inbetween is not None:
        size = inbetween.config.frame_size
        if config.data.size not in (size, preset):
            raise InputError(f"size is {config.data.size}, but {config.inbetween} was trained at {size}; leave it out")
        return dataclasses.replace(config.data, size=size, num_channels=inbetween.config.num_channels)
    size = SIZE if config.data.size == preset else config.data.size
    return dataclasses.replace(config.data, size=size, num_channels=3 if config.input else config.data.num_channels)


def check_frame_size(config: CompleteConfig, gap: Gap, model: InbetweenModel) -> None:
    """Raise an `InputError` unless frames have the size that the in-between model was trained at."""
    trained, (height, width, _) = model.config.frame_size, gap.first.shape
    if (height, width) != (trained, trained):
        option = "resize" if config.input else "size"
        raise InputError(
            f"frames of {width}x{height} pixels, but {config.inbetween} was trained at {trained}x{trained}; "
            f"give --{option}={trained}"
        )


def open_gaps(config: CompleteConfig) -> list[Gap]:
    """What is to be completed.

    Raises:
        InputError: it cannot be read, or plays faster than the format of the videos can.
    """
    if config.input:
        gaps = find_gaps(
            config.input,
            config.num_frames,
            num_channels=config.data.num_channels,
            size=config.resize,
            fps=config.fps or 25.0,
        )
    else:
        gaps = gaps_of_clips(open_clips(config.data, "test"), config.num_frames, config.max_clips)
    gaps = [gap._replace(fps=config.fps or gap.fps) for gap in gaps]
    check_rates(gaps, config.format)
    return gaps


PRESETS = {
    name: CompleteConfig(dataset=name, data=config.data)
    for name, config in sorted(CONFIGS.items(), key=lambda item: item[0] != "synthetic")
}

if __name__ == "__main__":
    run(main, CompleteConfig, PRESETS)
