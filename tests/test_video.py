"""Video and image files: round trips, and a one-line error for every bad file."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidcomp_jax.errors import InputError
from vidcomp_jax.media import ffmpeg
from vidcomp_jax.media.images import center_square, read_image, resize, write_image
from vidcomp_jax.media.video import VideoWriter, iterate_frames, probe, read_frames

WALKING = Path(__file__).parent / "data" / "kth_like" / "walking"
AVI = WALKING / "person01_walking_d1_uncomp.avi"


def moving_frames(count=12, height=48, width=64, channels=3):
    """Return a smooth image with a moving bright square, which every codec preserves well."""
    ramp = np.linspace(30, 200, width)[None, None, :, None] * np.linspace(0.6, 1, channels)
    frames = np.broadcast_to(ramp, (count, height, width, channels)).astype(np.uint8).copy()
    for t, frame in enumerate(frames):
        frame[10:26, 2 * t : 2 * t + 16] = 230
    return frames


def write(path, frames, fps=25.0, **settings):
    with VideoWriter(path, fps=fps, **settings) as writer:
        writer.write(frames)
    return path


def run_ffmpeg(*arguments):
    subprocess.run([ffmpeg.executable(), "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(48, 64), (33, 51), (50, 18)])
def test_mp4_keeps_size_count_and_rate(tmp_path, channels, size):
    frames = moving_frames(9, *size, channels)
    path = write(tmp_path / "x.mp4", frames, fps=30000 / 1001)
    assert probe(path) == (size[1], size[0], 9, pytest.approx(30000 / 1001, rel=1e-9), False)
    found = read_frames(path, num_channels=channels).astype(int)
    assert found.shape == frames.shape
    assert np.abs(found - frames).mean() < 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.mp4"]


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_mp4_keeps_every_pixel(tmp_path, channels):
    frames = np.random.default_rng(0).integers(0, 256, (5, 34, 51, channels), np.uint8)
    path = write(tmp_path / "x.mp4", frames, lossless=True)
    np.testing.assert_array_equal(read_frames(path, num_channels=channels), frames)


@pytest.mark.parametrize(("channels", "most"), [(1, 0), (3, 12)])
def test_gif_keeps_size_count_and_rate_even_of_still_frames(tmp_path, channels, most):
    frames = moving_frames(channels=channels)
    frames[4:8] = frames[4]
    path = write(tmp_path / "x.gif", frames, fps=20.0)
    assert probe(path)[:4] == (64, 48, 12, 20.0)
    assert np.abs(read_frames(path, num_channels=channels).astype(int) - frames).mean() <= most


def test_floats_are_written_as_bytes(tmp_path):
    frames = moving_frames(3, channels=1)
    path = write(tmp_path / "x.gif", frames / np.float32(255))
    np.testing.assert_array_equal(read_frames(path, num_channels=1), frames)


def test_chosen_frames_in_the_order_asked_for():
    everything = read_frames(AVI, num_channels=1)
    wanted = [40, 3, 4, 5, 3, 0]
    np.testing.assert_array_equal(read_frames(AVI, num_channels=1, indices=wanted), everything[wanted])
    with pytest.raises(InputError, match=r"person01.*frame 48 \(counted from 0\)"):
        read_frames(AVI, num_channels=1, indices=[2, 48])


def test_chunks_make_up_the_video():
    chunks = list(iterate_frames(AVI, num_channels=1, chunk=20))
    assert [len(chunk) for chunk in chunks] == [20, 20, 8]
    np.testing.assert_array_equal(np.concatenate(chunks), read_frames(AVI, num_channels=1))
    assert probe(AVI) == (160, 120, 48, 25.0, False)


def test_leaving_a_video_early_ends_its_decoder(monkeypatch):
    started = []

    class Process(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Process)
    frames = iterate_frames(AVI, chunk=1)
    next(frames)
    # The frames exceed the capacity of a pipe, so the decoder blocks until they are read.
    assert started[-1].poll() is None
    frames.close()
    assert all(process.poll() is not None for process in started)


def test_gray_is_the_brightness_of_color():
    gray, color = read_frames(AVI, num_channels=1).astype(int), read_frames(AVI, num_channels=3).astype(int)
    assert np.abs(gray - color).max() <= 1


def test_variable_frame_times_do_not_change_the_count(tmp_path):
    """Every stored frame is returned once, even if it is shown for longer."""
    images = [Image.fromarray(np.full((16, 16), 60 * i, np.uint8)) for i in range(4)]
    path = tmp_path / "x.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[40, 200, 40, 120])
    assert read_frames(path, num_channels=1)[:, 0, 0, 0].tolist() == [0, 60, 120, 180]
    assert probe(path).num_frames == 4


def test_a_turned_video_has_the_size_it_is_shown_in(tmp_path):
    upright = write(tmp_path / "upright.mp4", moving_frames(4))
    run_ffmpeg("-display_rotation", "90", "-i", upright, "-c", "copy", tmp_path / "turned.mp4")
    assert probe(tmp_path / "turned.mp4")[:3] == (48, 64, 4)
    assert read_frames(tmp_path / "turned.mp4").shape == (4, 64, 48, 3)


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "sound.avi"
    run_ffmpeg("-i", AVI, "-f", "lavfi", "-i", "sine=duration=5", "-c:v", "copy", "-c:a", "pcm_s16le", path)
    return path


@pytest.mark.parametrize("count", [10, 30])
def test_sound_is_copied_and_changes_no_frame(tmp_path, sound, count):
    assert probe(sound).has_audio
    frames = moving_frames(count, width=80)
    silent = write(tmp_path / "silent.mp4", frames)
    path = write(tmp_path / "x.mp4", frames, audio_from=sound)
    assert probe(path) == (80, 48, count, 25.0, True)
    np.testing.assert_array_equal(read_frames(path), read_frames(silent))
    again = write(tmp_path / "again.mp4", frames, audio_from=path)
    assert probe(again).has_audio
    assert not probe(write(tmp_path / "none.mp4", frames, audio_from=AVI)).has_audio


def truncated(tmp_path, keep):
    path = tmp_path / "cut.avi"
    path.write_bytes(AVI.read_bytes()[:keep])
    return path


def test_a_truncated_avi_names_both_counts(tmp_path):
    path = truncated(tmp_path, 40000)
    with pytest.raises(InputError, match=r"cut.avi: .*announces 48 frames, 22 can be decoded"):
        read_frames(path)
    assert sum(len(chunk) for chunk in take_until_error(path)) == 20


def take_until_error(path):
    try:
        yield from iterate_frames(path, chunk=10)
    except InputError:
        return


def test_an_avi_whose_last_frame_is_missing_is_truncated_too(tmp_path):
    data = AVI.read_bytes()
    last = data.rindex(b"00dc", 0, data.rindex(b"idx1"))
    with pytest.raises(InputError, match="48 frames, 47 can be decoded"):
        read_frames(truncated(tmp_path, last))


def test_an_avi_without_index_is_read(tmp_path):
    path = truncated(tmp_path, AVI.read_bytes().rindex(b"idx1"))
    np.testing.assert_array_equal(read_frames(path), read_frames(AVI))


def test_many_frames_that_are_far_apart_are_read(tmp_path):
    path = write(tmp_path / "long.mp4", moving_frames(300, 24, 700)[:, :, :32], lossless=True)
    numbers = [*range(298, 0, -2), 7]
    np.testing.assert_array_equal(read_frames(path, indices=numbers), read_frames(path)[numbers])


def test_a_rate_of_nearly_nothing_counts_as_not_stated(tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=r=1/100000:s=16x16", "-frames:v", "2", tmp_path / "slow.mkv")
    assert probe(tmp_path / "slow.mkv").fps == 25.0


def test_damage_that_ffmpeg_gets_over_is_reported(tmp_path, caplog):
    path = write(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8))
    whole = read_frames(path)
    assert not caplog.text
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(1).integers(0, 256, 2000, np.uint8).tobytes()
    path.write_bytes(content)
    assert 20 <= len(read_frames(path)) <= len(whole)
    assert f"{path}: damaged, some of its frames look wrong or are missing (" in caplog.text


def test_a_truncated_mp4_is_noticed(tmp_path):
    path = write(tmp_path / "x.mp4", np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"x.mp4: .*announces 20 frames"):
        read_frames(path)


@pytest.mark.parametrize("read", [read_frames, probe, read_image])
def test_what_is_no_file_is_named(tmp_path, read):
    with pytest.raises(InputError, match=r"nothing.mp4: no such file"):
        read(tmp_path / "nothing.mp4")
    with pytest.raises(InputError, match=f"{tmp_path}: is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello " * 100, AVI.read_bytes()[:300]], ids=["empty", "text", "header"])
@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.gif"])
@pytest.mark.parametrize("read", [read_frames, probe])
def test_what_is_no_video_is_one_line(tmp_path, name, content, read, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_video_of_sound_alone_is_no_video(tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "x.mp4")
    with pytest.raises(InputError, match=r"x.mp4: not a video"):
        probe(tmp_path / "x.mp4")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("x.webp", {}, r"x.webp: videos are written as .mp4 or .gif"),
        ("x", {}, "without an ending"),
        ("no/x.mp4", {}, "folder .*no does not exist"),
        ("x.gif", {"fps": 60.0}, "x.gif: 60.0 frames per second"),
        ("x.mp4", {"fps": 0.0}, "x.mp4: 0.0 frames per second"),
        ("x.gif", {"lossless": True}, "a GIF has no sound"),
        ("x.mp4", {"audio_from": Path("missing.wav")}, "missing.wav: no such file"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, name, settings, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / name, moving_frames(2), **settings)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, fps=25.0) as writer:
        writer.write(moving_frames(3))
        raise RuntimeError("stop")
    with pytest.raises(InputError, match=r"x.mp4: no frames to write"), VideoWriter(path, fps=25.0):
        pass
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x.mp4", b"old")]


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    """/dev/full reports that no space is left on every write."""
    monkeypatch.setattr("vidcomp_jax.media.video.new_file", lambda path: contextlib.nullcontext(Path("/dev/full")))
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 1), np.uint8)
    with pytest.raises(OSError, match=r"x.gif: writing failed: .*[Nn]o space left"):
        write(tmp_path / "x.gif", noise)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_round_trip(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, channels), np.uint8)
    write_image(tmp_path / "x.png", image)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", num_channels=channels), image)
    write_image(tmp_path / "x.png", image / np.float32(255))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", num_channels=channels), image)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


def test_sixteen_bits_and_transparency(tmp_path):
    Image.fromarray(np.array([[0, 128 << 8, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", num_channels=1).ravel().tolist() == [0, 128, 255]
    Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8), "RGBA").save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").reshape(2, 3).tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "cut"])
def test_what_is_no_image_is_named(tmp_path, content):
    write_image(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = (tmp_path / "x.png").read_bytes()[:4000] if content is None else content
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match=r"x.png: not an image"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize(("shape", "size"), [((120, 120, 1), 64), ((30, 50, 3), 64), ((120, 160, 3), 32)])
def test_resize_is_bilinear_and_anti_aliased(shape, size):
    """Against the definition: a normalized triangle filter as wide as the scale factor (at least one pixel)."""

    def weights(source):
        step = source / size
        centers = (np.arange(size) + 0.5) * step - 0.5
        triangle = np.maximum(0, 1 - np.abs(np.arange(source) - centers[:, None]) / max(step, 1))
        return triangle / triangle.sum(1, keepdims=True)

    frames = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    expected = np.einsum("yh,xw,thwc->tyxc", weights(shape[0]), weights(shape[1]), frames.astype(float))
    assert np.abs(resize(frames, size) - expected).max() < 1.1


def test_center_square_takes_the_middle():
    frames = np.arange(5 * 9, dtype=np.uint8).reshape(1, 5, 9, 1)
    np.testing.assert_array_equal(center_square(frames), frames[:, :, 2:7])


def test_importing_starts_nothing():
    code = "import sys, json, vidcomp_jax.media.video; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "imageio", "imageio_ffmpeg"} & set(json.loads(shown.stdout))
