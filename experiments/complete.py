"""Complete clips: `python -m experiments.complete --fomm=DIR --method=linear --input=CLIPS --output=OUT`.

Takes the first and the last frame, or the frames that --known names, of videos, of images, or of a data set's test
clips, and generates all others. Writes a video and the keypoints for each clip, method and sample, `scores.json`, and
`index.html`, which plays all of them. Methods over keypoints (linear, flow, wgan, autoregressive) need --fomm, and
those that were trained a run of their own; `inbetween` needs a run of `experiments.train_inbetween`, and `tfhub` a
published TensorFlow Hub module.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from experiments.commands import run
from experiments.configs import CONFIGS, Preset
from experiments.options import DataOptions, frame_numbers
from vidcomp_jax.completion.complete import complete_by_all
from vidcomp_jax.completion.completers import FrameFormat
from vidcomp_jax.completion.frame_formats import check_frame_size, frames_for
from vidcomp_jax.completion.inputs import (
    PAGE,
    GivenClip,
    clips_of_data,
    clips_of_files,
    known_frames,
    known_times,
)
from vidcomp_jax.completion.methods import METHODS, MethodSettings, default_methods, open_completers
from vidcomp_jax.completion.outputs import check_rates, write_completions
from vidcomp_jax.completion.scores import score_completions
from vidcomp_jax.data import open_clips
from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.fomm.loading import check_trained_data
from vidcomp_jax.storage.folders import check_output_folder
from vidcomp_jax.storage.untrusted import check_memory

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]  # the choices that the command line offers


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompleteConfig(MethodSettings):
    """Generate the frames between given ones."""

    method: tuple[Method, ...] = ()
    """Methods that generate the frames; the results of several are shown side by side. By default flow, if
    --motion-model holds a run of it, and linear otherwise."""
    input: tuple[Path, ...] = ()
    """Videos, folders of videos or of images, or one image for each given frame; by default, the test split of
    --dataset."""
    known: str = ""
    """Numbers of the given frames in the clip, such as 0,7,15; by default, the first and the last."""
    dataset: Preset = "synthetic"
    max_clips: int = 16
    """Without --input: number of clips to complete, evenly spaced over the test split."""
    any_data: bool = False
    """Without --input: allow data settings that differ from those the keypoint model was trained with."""
    output: Path = Path("completed")
    """Folder to write."""
    overwrite: bool = False
    """Replace the output folder if it exists."""
    num_frames: int = 16
    """Number of frames of each clip, including both ends."""
    samples: int = 3
    """Number of samples per clip, for stochastic methods."""
    format: Literal["mp4", "gif"] = "mp4"
    """Format of the videos."""
    fps: float = 0.0
    """Frame rate of the videos; 0 means that of the input, or 25 for images."""
    seed: int = 0
    """Seed of the random samples."""
    resize: int = 0
    """With --input: crop frames to the centered square and resize it to this many pixels; 0 leaves frames as they
    are."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Without --input: where clips come from. With inbetween or tfhub alone, --size also sets the size of frames."""

    def __post_init__(self):
        super().__post_init__()
        require_at_least(self, num_frames=2, samples=1, max_clips=1, seed=0, resize=0, fps=0)
        try:
            known_times(self.num_frames, self.times)
        except InputError as error:
            raise InputError(str(error).replace("`times`", "`known`")) from None

    @property
    def times(self) -> tuple[int, ...]:
        """The numbers of the given frames; none for the first and the last."""
        return frame_numbers(self, "known")


def main(config: CompleteConfig) -> None:
    """Complete the clips, write the results, and print their scores against the true frames."""
    check_output_folder(config.output, "completion", overwrite=config.overwrite)
    completers = open_completers(
        config.method or default_methods(config), config, config.num_frames, known=config.times
    )
    over_keypoints = any(completer.over_keypoints for completer in completers.values())
    if over_keypoints and not config.input:
        check_trained_data(config.fomm, config.data, any_data=config.any_data)
    clips = open_inputs(config, [completer.frame_format for completer in completers.values()])
    known = known_frames(clips, config.num_frames, config.times)
    count = len(completers) * config.samples * len(clips) * config.num_frames
    size = 4 * count * math.prod(known.frames.shape[2:])
    check_memory(
        size, f"{count} frames, of {len(clips)} clips, {len(completers)} methods and {config.samples} samples,"
    )
    results = complete_by_all(completers, known, config.num_frames, num_samples=config.samples, seed=config.seed)
    scores = score_completions(clips, results, config.times)
    write_completions(config.output, clips, results, scores, config.times, format=config.format)
    for title in results:
        if title not in scores:
            print(f"{title}: no true frames to compare with")
            continue
        mean = scores[title].mean
        print(
            f"{title}: L1 to the truth {mean.l1:.4f}, PSNR {mean.psnr:.2f} dB, SSIM {mean.ssim:.4f}, generated frames"
        )
    print(f"{len(clips)} clips of {config.num_frames} frames; to view them, open {config.output / PAGE}")


def open_inputs(config: CompleteConfig, formats: Sequence[FrameFormat]) -> list[GivenClip]:
    """The clips to complete, with frames in the format that the methods accept.

    Raises:
        InputError: a clip cannot be read, does not suit a method, or has a frame rate that `--format` does not allow.
    """
    default_size = PRESETS.get(config.dataset, config).data.size
    data = frames_for(formats, config.data, default_size=default_size, from_files=bool(config.input))
    if config.input:
        clips = clips_of_files(
            config.input,
            config.num_frames,
            config.times,
            num_channels=data.num_channels,
            size=config.resize or None,
            fps=config.fps or 25.0,
        )
    else:
        clips = clips_of_data(open_clips(data, "test"), config.num_frames, config.max_clips, config.times)
    # If all methods work on pixels, --resize overrides the size that they were trained at.
    if not config.resize or any(f.size is None for f in formats):
        _, height, width, _ = clips[0].known.shape
        check_frame_size(formats, height, width, setting="resize" if config.input else "size")
    clips = [clip._replace(fps=config.fps or clip.fps) for clip in clips]
    check_rates(clips, config.format)
    return clips


PRESETS = {
    name: CompleteConfig(dataset=name, data=config.data)
    for name, config in sorted(CONFIGS.items(), key=lambda item: item[0] != "synthetic")
}

if __name__ == "__main__":
    run(main, CompleteConfig, PRESETS)
