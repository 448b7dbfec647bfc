"""Animate a picture: `python -m experiments.animate --fomm=DIR --source=IMAGE --driving=VIDEO --output=out.mp4`.

The picture moves like the video. The result has the frame rate of the video and, if it is an MP4, its sound. Frames
are read, rendered and written in chunks, so that long videos fit into memory. With `--dataset`, clips of a test split
are animated with the motion of others; with `--config`, as a YAML file of the published code says.
"""

import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from experiments.animate_pairs import PRESETS, PairedData, animate_pairs, check_sources, official_options
from experiments.commands import run
from experiments.official import KEYS, VideoFormat
from vidcomp_jax.background import WriteBehind
from vidcomp_jax.errors import InputError, require, require_at_least
from vidcomp_jax.fomm.animation import Chunk, Result, animate, best_frame, detect
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.official import read_official
from vidcomp_jax.media.ffmpeg import Header
from vidcomp_jax.media.images import read_image, resize, to_uint8, write_image
from vidcomp_jax.media.video import VideoWriter, iterate_frames, probe, read_frames
from vidcomp_jax.nn.precision import Precision
from vidcomp_jax.storage.atomic import check_output_file
from vidcomp_jax.storage.config import CONFIG_FILE
from vidcomp_jax.storage.folders import check_output_folder, new_folder
from vidcomp_jax.storage.steps import Which
from vidcomp_jax.storage.untrusted import read_json
from vidcomp_jax.training.profile import Profile


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnimateConfig:
    """Animate a picture with the motion of a video."""

    fomm: Path
    """Model folder or training run of the First Order Motion Model."""
    source: Path | None = None
    """Picture to animate."""
    driving: Path | None = None
    """Video whose motion is transferred to the picture."""
    output: Path | None = None
    """File to write, .mp4 or .gif, animation.mp4 by default; with --dataset, a folder, animations by default."""
    dataset: str = ""
    """Animate clips of a test split with the motion of others instead: kth, bair, vox, vox-adv, taichi, taichi-adv,
    fashion, mgif, nemo, folder or synthetic."""
    config: Path | None = None
    """Animate the clips that a YAML file of the published code names, as its mode animate does; in place of
    --dataset."""
    pairs_list: Path | None = None
    """With --dataset: CSV file with the columns source and driving, names of clips; random pairs by default."""
    num_pairs: int = 50
    """With --dataset: maximum number of pairs."""
    format: VideoFormat = ".mp4"
    """With --dataset: format of the videos."""
    png_strips: bool = False
    """With --dataset: also write the frames of every result side by side into one lossless image, in png/."""
    which: Which = "latest"
    """Which checkpoint of a training run to load."""
    precision: Precision = "float32"
    """Compute in float32, or mostly in bfloat16, which is faster on GPUs and TPUs and takes less memory."""
    relative: bool = True
    """Move the picture's keypoints by as much as the video's keypoints have moved since its best frame."""
    absolute: bool = False
    """Use the video's keypoints as they are, like --no-relative: the picture then also takes on the shape of the
    figure in the video."""
    relative_jacobian: bool = True
    """With relative motion, also turn and stretch the surroundings of each keypoint relative to the best frame; without
    it, they are those of the video."""
    adapt_scale: bool = False
    """Scale movements by the ratio of the figures' sizes; not with --absolute."""
    best_frame: int | Literal["auto"] = 0
    """Index (from 0) of the driving frame whose pose matches the picture's; auto searches for it, which reads the
    video twice. Not with --absolute."""
    size: int = 0
    """Height and width of the rendered frames, in pixels; 0 means the size that the model was trained at."""
    batch_size: int = 8
    """Frames rendered at a time, on all devices together."""
    side_by_side: bool = False
    """Write the source, the driving frame and the result side by side."""
    png_frames: Path | None = None
    """Also write every frame as a PNG image into this folder, which must not exist yet."""
    lossless: bool = False
    """MP4 only: encode without loss (few browsers play such files)."""
    overwrite: bool = False
    """Replace existing outputs."""
    profile: Path | None = None
    """Folder for a trace of the rendering of five batches, after the first four, for TensorBoard or Perfetto; for one
    picture, not with --dataset."""
    data: Annotated[PairedData, tyro.conf.arg(name="")] = PairedData()
    """Where the clips are, with --dataset."""

    def __post_init__(self):
        require_at_least(self, batch_size=1, num_pairs=1)
        require(self.profile is None or not self.dataset, self, "profile", "left out with a data set")
        require(self.size >= 0 and self.size % 4 == 0, self, "size", "a multiple of 4, such as 256")
        require(self.best_frame == "auto" or self.best_frame >= 0, self, "best_frame", "at least 0, or auto")
        if not self.moves_relatively:
            require(not self.adapt_scale, self, "adapt_scale", "left out with absolute motion")
            require(self.relative_jacobian, self, "relative_jacobian", "left out with absolute motion")
            require(self.best_frame == 0, self, "best_frame", "left out with absolute motion")

    @property
    def picture(self) -> Path:
        """`source`, which `main` requires unless there is a data set."""
        assert self.source is not None
        return self.source

    @property
    def video(self) -> Path:
        """`driving`, which `main` requires unless there is a data set."""
        assert self.driving is not None
        return self.driving

    @property
    def moves_relatively(self) -> bool:
        """Whether the movement of the keypoints is transferred, rather than their positions."""
        return self.relative and not self.absolute

    @property
    def rendering(self) -> dict[str, Any]:
        """Options of `vidcomp_jax.fomm.animation.animate`."""
        options = {"adapt_scale": self.adapt_scale, "relative_jacobian": self.relative_jacobian}
        return {"chunk": self.batch_size, **options}


def main(config: AnimateConfig) -> None:
    """Animate the picture, or the clips of a data set, and print what was written."""
    check_sources(config)
    if config.dataset:
        return animate_pairs(config, config.size or trained_size(config.fomm))
    config = dataclasses.replace(config, output=config.output or Path("animation.mp4"))
    animate_picture(config)


def animate_picture(config: AnimateConfig) -> None:
    """Animate one picture with one video."""
    assert config.output is not None  # for the type checker; `main` sees to it
    check_output_file(config.output, overwrite=config.overwrite)
    if config.png_frames is not None:
        check_output_folder(config.png_frames, "frames", overwrite=config.overwrite, field="png_frames")
    info = probe(config.video)
    model = load_fomm(config.fomm, config.which, precision=config.precision)
    channels = model.config.num_channels
    _check_channels(config, channels)
    size = config.size or trained_size(config.fomm)
    source = resize(read_image(config.picture, num_channels=channels)[None], size)[0]
    start = time.perf_counter()
    initial = initial_keypoints(config, model, source) if config.moves_relatively else None
    count, first = 0, 0.0
    with contextlib.ExitStack() as outputs:
        folder = None
        if config.png_frames is not None:
            folder = outputs.enter_context(new_folder(config.png_frames, "frames", replace=True))
        gif = config.output.suffix.lower() == ".gif"
        sound = config.video if info.has_audio and not gif else None
        video = outputs.enter_context(
            VideoWriter(config.output, fps=info.fps, lossless=config.lossless, audio_from=sound)
        )
        bar = outputs.enter_context(tqdm(total=info.num_frames, unit="frame", disable=None))
        profile = outputs.enter_context(Profile(config.profile))

        def write(number: int, driving: Chunk, result: Result) -> None:
            nonlocal first
            pixels = to_uint8(result)
            shown = _side_by_side(source, driving, pixels) if config.side_by_side else pixels
            video.write(shown)
            if folder is not None:
                for i, frame in enumerate(shown, number):
                    write_image(folder / f"{i:06d}.png", frame)
            if not number:
                first = time.perf_counter() - start

        behind = outputs.enter_context(WriteBehind())
        results = outputs.enter_context(contextlib.closing(_rendered(config, model, source, size, initial)))
        for driving, result in results:
            profile.begin_round(result)
            behind(write, count, driving, result)
            count += len(result)
            bar.update(len(result))
    width = size * 3 if config.side_by_side else size
    seconds = time.perf_counter() - start
    print(
        f"{config.output}: {count} frames of {width} x {size} at {info.fps:.5g} frames per second"
        f"{', with sound' if sound else ''}; {seconds:.1f} s, the first frames after {first:.1f} s"
    )


def initial_keypoints(config: AnimateConfig, model: FirstOrderMotionModel, source: np.ndarray) -> Keypoints:
    """Keypoints of the driving frame that motion is measured from."""
    size, channels = source.shape[0], source.shape[-1]
    if config.best_frame != "auto":
        frames = read_frames(config.video, num_channels=channels, indices=[config.best_frame])
        return detect(model, resize(frames, size)[0])
    best = best_frame(model, source, _driving(config, channels, size), chunk=config.batch_size)
    print(f"frame {best.index} of {config.video} is closest to the pose of {config.picture}", flush=True)
    return best.keypoints


def trained_size(directory: Path) -> int:
    """Size in pixels of the frames that a model was trained on; raises `InputError` if its folder does not say."""
    stored = read_json(directory / CONFIG_FILE)
    try:
        return msgspec.convert(stored, type=_Trained).data.size
    except msgspec.ValidationError:
        raise InputError(f"{directory}: does not say at which size the model was trained; set --size") from None


class _Data(msgspec.Struct):
    size: int


class _Trained(msgspec.Struct):
    data: _Data


def _rendered(config: AnimateConfig, model, source, size: int, initial) -> Generator[tuple[Chunk, Result], None, None]:
    """Driving frames and the frames rendered from them, one chunk at a time."""
    read = []

    def recorded() -> Iterator[Chunk]:
        for frames in _driving(config, source.shape[-1], size):
            read.append(frames)
            yield frames

    with contextlib.closing(animate(model, source, recorded(), initial, **config.rendering)) as results:
        for result in results:
            yield read.pop(0), result


def _driving(config: AnimateConfig, channels: int, size: int) -> Iterator[Chunk]:
    for frames in iterate_frames(config.video, num_channels=channels, chunk=config.batch_size):
        yield resize(frames, size)


def _side_by_side(source: np.ndarray, driving: Chunk, result: Chunk) -> Chunk:
    return np.concatenate([np.broadcast_to(source, driving.shape), driving, result], axis=2)


def _check_channels(config: AnimateConfig, channels: int) -> None:
    """Raise an `InputError` if one input is gray and the other is in color; a model of gray frames converts both."""
    if channels == 1 or config.video.suffix.lower() == ".gif":  # GIF files do not record whether they are gray
        return
    read_image(config.picture)
    with Image.open(config.picture) as image:
        source = 1 if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I") else 3
    driving = 1 if "gray" in Header.read(config.video).streams.partition("Video:")[2].partition("\n")[0] else 3
    if source != driving:
        raise InputError(
            f"{config.picture} has {source} channel{'s' * (source > 1)}, {config.video} has {driving}, and the model "
            f"takes {channels}: convert one of them, or the model gets a gray and a color image of the same scene"
        )


ANIMATE_PRESETS = {"": AnimateConfig(fomm=tyro.MISSING)}
ANIMATE_PRESETS |= {name: AnimateConfig(fomm=tyro.MISSING, dataset=name, data=data) for name, data in PRESETS.items()}


def official(path: Path) -> AnimateConfig:
    """The configuration that an official YAML file describes; `InputError` names the file and the key."""
    file = read_official(path)
    options = official_options(file)
    with file.named_in_errors(KEYS):
        return AnimateConfig(fomm=tyro.MISSING, **options)


if __name__ == "__main__":
    run(main, AnimateConfig, ANIMATE_PRESETS, preset_file=official)
