"""Animation of a real video: the files written, independence of the chunk size, motion transfer, and bad input."""

import re
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from converters.official import converted
from experiments import animate as command
from experiments.animate import AnimateConfig
from experiments.commands import parse
from tests.support import golden
from vidcomp_jax import (
    FirstOrderMotionModel,
    InputError,
    Keypoints,
    load_fomm,
    movement_scale,
    save_fomm,
    transfer_motion,
)
from vidcomp_jax.fomm.animation import animate, best_frame, detect
from vidcomp_jax.media import ffmpeg
from vidcomp_jax.media.images import read_image, resize, write_image
from vidcomp_jax.media.video import VideoWriter, probe, read_frames
from vidcomp_jax.storage.checkpoint import save_model
from vidcomp_jax.storage.folders import mark

WALKING = Path(__file__).parent / "data" / "kth_like" / "walking"
VIDEO = WALKING / "person01_walking_d1_uncomp.avi"
SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a gray and an RGB model, a picture, and short videos."""
    folder = tmp_path_factory.mktemp("animate")
    for name in ("tiny-gray", "tiny-rgb-sn"):
        model = golden.fomm(name)
        save_model(folder / name, model, converted(model.config, SIZE))
    write_image(folder / "picture.png", read_frames(WALKING / "person15_walking_d1_uncomp.avi", indices=[3])[0])
    frames = read_frames(VIDEO)[:19]
    with VideoWriter(folder / "short.mp4", fps=12.5, lossless=True) as video:
        video.write(frames)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load_fomm(folder / "tiny-gray")


def config(folder, **changes):
    given = {"fomm": folder / "tiny-gray", "source": folder / "picture.png", "driving": VIDEO} | changes
    return AnimateConfig(**given)


def pictures(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def gray(path, **options):
    return resize(read_frames(path, num_channels=1, **options), SIZE)


def same_pictures(a, b):
    """Assert equality, except that rounding may change a few pixels by one level."""
    difference = np.abs(a.astype(int) - b.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_real_video_in_two_chunk_sizes_against_frame_by_frame(folder, model, tmp_path, capsys):
    frames = {}
    for batch_size in (5, 16):
        output, png = tmp_path / f"{batch_size}.mp4", tmp_path / f"frames{batch_size}"
        command.main(config(folder, output=output, png_frames=png, batch_size=batch_size, lossless=True))
        assert re.search(
            r"48 frames of 64 x 64 at 25 frames per second; .* the first frames after", capsys.readouterr().out
        )
        assert probe(output) == (SIZE, SIZE, 48, 25.0, False)
        frames[batch_size] = pictures(png)
        np.testing.assert_array_equal(frames[batch_size], read_frames(output, num_channels=1)[..., 0])
    same_pictures(frames[5], frames[16])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["16.mp4", "5.mp4", "frames16", "frames5"]

    source = resize(read_image(folder / "picture.png", num_channels=1)[None], SIZE)[0].astype(np.float32) / 255
    driving = gray(VIDEO).astype(np.float32) / 255
    keypoints, initial = model.detect(source), model.detect(driving[0])
    for t in (0, 7, 47):
        moved = transfer_motion(keypoints, model.detect(driving[t]), initial)
        expected = np.asarray(model.render(source, keypoints, moved).prediction)[..., 0]
        same_pictures(frames[5][t], np.round(expected * 255))
    # At the initial frame the source is rendered at its own keypoints.
    own = np.asarray(model.render(source, keypoints, keypoints).prediction)[..., 0]
    same_pictures(frames[5][0], np.round(own * 255))


def test_reads_no_further_ahead_than_two_chunks(model):
    frames, read = gray(VIDEO, indices=range(16)), []

    def chunks():
        for start in range(0, 16, 4):
            read.append(start)
            yield frames[start : start + 4]

    for done, result in enumerate(animate(model, frames[0], chunks(), chunk=4)):
        assert len(result) == 4 and len(read) <= done + 3


def test_absolute_and_scaled_motion(model):
    driving, source = gray(VIDEO, indices=range(6)), gray(WALKING / "person15_walking_d1_uncomp.avi", indices=[9])[0]
    initial = detect(model, driving[0])
    found = model.detect(driving.astype(np.float32) / 255)
    keypoints = detect(model, source)
    scale = movement_scale(keypoints, initial)
    assert abs(scale - 1) > 1e-2
    for options, moved in (
        ({"initial": None}, found),
        ({"initial": initial}, transfer_motion(keypoints, found, initial)),
        ({"initial": initial, "adapt_scale": True}, transfer_motion(keypoints, found, initial, scale=scale)),
    ):
        (result,) = animate(model, source, [driving], chunk=6, **options)
        expected = model.render(source.astype(np.float32) / 255, keypoints, moved).prediction
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_best_frame_resembles_the_source(folder, model, tmp_path, capsys):
    frames = gray(folder / "short.mp4")
    for index in (0, 11, 18):
        found = best_frame(model, frames[index], np.array_split(frames, 3), chunk=7)
        assert found.index == index
        np.testing.assert_allclose(found.keypoints.position, detect(model, frames[index]).position, atol=1e-5)
    write_image(tmp_path / "eleven.png", read_frames(folder / "short.mp4", indices=[11])[0])
    changes = {"source": tmp_path / "eleven.png", "driving": folder / "short.mp4", "lossless": True}
    command.main(config(folder, best_frame="auto", output=tmp_path / "auto.mp4", **changes))
    assert "frame 11 of" in capsys.readouterr().out
    command.main(config(folder, best_frame=11, output=tmp_path / "eleven.mp4", **changes))
    same_pictures(*(read_frames(tmp_path / f"{name}.mp4") for name in ("auto", "eleven")))


class PointModel(FirstOrderMotionModel):
    """A model with known keypoints: each row of a frame contains the x and y of one."""

    def __init__(self):
        pass

    def detect(self, frames):
        position = frames[..., 0]
        return Keypoints(position, jnp.broadcast_to(jnp.eye(2), (*position.shape, 2)))


def test_best_frame_ignores_place_and_size_and_poses_on_a_line():
    pose = np.array([[10, 10], [60, 20], [50, 80], [20, 60]], np.uint8)
    other = np.array([[10, 10], [90, 20], [50, 40], [20, 60]], np.uint8)
    line = np.array([[10, 10], [20, 20], [50, 50], [60, 60]], np.uint8)
    frames = np.stack([line, other, pose * 2 + 70, other[::-1]])[..., None]
    assert best_frame(PointModel(), pose[..., None], [frames[:3], frames[3:]], chunk=3).index == 2
    with pytest.raises(InputError, match="no driving frame span an area"):
        best_frame(PointModel(), pose[..., None], [line[None, ..., None]])
    with pytest.raises(InputError, match="the source's keypoints span no area"):
        best_frame(PointModel(), line[..., None], [frames])


def test_side_by_side_with_sound_and_as_gif(folder, tmp_path):
    loud = tmp_path / "loud.mp4"
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3"]
    inputs = ["-i", str(folder / "short.mp4"), *sound]
    subprocess.run([ffmpeg.executable(), "-v", "error", *inputs, "-c:v", "copy", "-shortest", str(loud)], check=True)
    model = {"fomm": folder / "tiny-rgb-sn", "driving": loud, "side_by_side": True}
    command.main(config(folder, **model, output=tmp_path / "out.mp4", size=32, lossless=True))
    assert probe(tmp_path / "out.mp4") == (96, 32, 19, 12.5, True)
    source, driving, result = np.split(read_frames(tmp_path / "out.mp4"), 3, axis=2)
    np.testing.assert_array_equal(
        source, np.broadcast_to(resize(read_image(folder / "picture.png")[None], 32), source.shape)
    )
    np.testing.assert_array_equal(driving, resize(read_frames(loud), 32))
    assert result.std() > 5
    command.main(config(folder, **model, output=tmp_path / "out.gif"))
    assert probe(tmp_path / "out.gif")[:3] == (3 * SIZE, SIZE, 19)


def test_options_of_the_command_line(folder):
    given = [f"--fomm={folder / 'tiny-gray'}", "--source=a.png", "--driving=b.mp4"]
    parsed = parse(AnimateConfig, [*given, "--best-frame=auto", "--adapt-scale", "--batch-size=4"])
    assert (parsed.best_frame, parsed.adapt_scale, parsed.batch_size, parsed.moves_relatively) == (
        "auto",
        True,
        4,
        True,
    )
    assert parse(AnimateConfig, [*given, "--best-frame=3"]).best_frame == 3
    assert parse(AnimateConfig, [*given, "--relative"]).moves_relatively
    assert not parse(AnimateConfig, [*given, "--absolute"]).moves_relatively
    assert not parse(AnimateConfig, [*given, "--no-relative"]).moves_relatively
    for option, message in (
        ("--batch-size=0", "--batch-size is 0"),
        ("--size=30", "--size is 30; it must be a multiple of 4"),
        ("--best-frame=-1", "--best-frame is -1"),
        ("--best-frame=first", "best-frame"),
    ):
        with pytest.raises(InputError, match=message):
            parse(AnimateConfig, [*given, option])
    with pytest.raises(InputError, match="--adapt-scale is True; it must be left out with absolute motion"):
        parse(AnimateConfig, [*given, "--absolute", "--adapt-scale"])


def test_bad_input_is_one_line_and_leaves_nothing(folder, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    write_image(inputs / "gray.png", read_image(folder / "picture.png", num_channels=1))
    (inputs / "empty.mp4").touch()
    (inputs / "cut.avi").write_bytes(VIDEO.read_bytes()[:-30000])
    save_fomm(inputs / "sizeless", load_fomm(folder / "tiny-gray"))
    color = {"fomm": folder / "tiny-rgb-sn"}
    (outputs / "there.mp4").touch()
    (outputs / "mine").mkdir()
    (outputs / "mine" / "letter.txt").touch()
    before = sorted(path.name for path in outputs.rglob("*"))
    for changes, message in (
        ({**color, "source": inputs / "gray.png"}, "gray.png has 1 channel, .*avi has 3, and the model takes 3"),
        ({"driving": inputs / "empty.mp4"}, "empty.mp4: "),
        ({"driving": inputs / "cut.avi"}, "cut off or damaged"),
        ({"driving": inputs / "none.mp4"}, "none.mp4: no such file"),
        ({"source": inputs / "none.png"}, "none.png: no such file"),
        ({"source": VIDEO}, "not an image"),
        ({"best_frame": 48}, "frame 48 .* was requested"),
        ({"fomm": inputs / "sizeless"}, "does not say at which size .* set --size"),
        ({"fomm": inputs / "nothing"}, "nothing"),
        ({"output": outputs / "no" / "x.mp4"}, r"the folder .*no does not exist"),
        ({"output": outputs / "there.mp4"}, "exists; .*`overwrite`"),
        ({"output": outputs / "mine", "overwrite": True}, "a folder, where a file"),
        ({"output": outputs / "x.avi"}, ".mp4 or .gif"),
        ({"png_frames": outputs / "mine"}, "`png_frames` is .*mine: exists"),
        ({"png_frames": outputs / "mine", "overwrite": True}, "something other than an earlier output"),
    ):
        options = {"output": outputs / "x.mp4", "png_frames": outputs / "frames", "batch_size": 16} | changes
        with pytest.raises(InputError, match=message) as error:
            command.main(config(folder, **options))
        assert "\n" not in str(error.value)
        assert sorted(path.name for path in outputs.rglob("*")) == before, message


def test_outputs_are_replaced_on_request(folder, tmp_path):
    output, png = tmp_path / "x.mp4", tmp_path / "frames"
    png.mkdir()
    for name in ("000000.png", "000099.png"):
        (png / name).touch()
    output.touch()
    mark(png, "frames")
    options = {"driving": folder / "short.mp4", "output": output, "png_frames": png}
    command.main(config(folder, overwrite=True, **options))
    assert probe(output).num_frames == 19 and len(pictures(png)) == 19
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "x.mp4"]


def test_gray_model_takes_any_picture_and_gray_pairs_suit_a_color_model(folder, tmp_path):
    write_image(tmp_path / "gray.png", read_image(folder / "picture.png", num_channels=1))
    gray_video = tmp_path / "gray.avi"
    options = ["-c:v", "ffv1", "-pix_fmt", "gray", str(gray_video)]
    subprocess.run([ffmpeg.executable(), "-v", "error", "-i", str(folder / "short.mp4"), *options], check=True)
    for name, source, driving in (
        ("tiny-gray", tmp_path / "gray.png", folder / "short.mp4"),
        ("tiny-rgb-sn", tmp_path / "gray.png", gray_video),
    ):
        output = tmp_path / f"{name}.mp4"
        command.main(config(folder, fomm=folder / name, source=source, driving=driving, output=output))
        assert probe(output).num_frames == 19
    with pytest.raises(InputError, match=r"has 3 channels, .*gray.avi has 1, and"):
        command._check_channels(config(folder, driving=gray_video), 3)
