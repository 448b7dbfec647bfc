"""Panels, drawn keypoints and the run log."""

import io
import json
import math
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import to_uint8
from vidcomp_jax.media.panels import PanelConfig, draw_keypoints, encode_png, keypoint_colors, panel, with_border
from vidcomp_jax.training.run_log import RunLog


@pytest.mark.parametrize("channels", [1, 3])
def test_discs_stand_on_the_keypoints(channels):
    image = np.full((33, 65, channels), 0.25)
    positions = np.array([[-1.0, -1.0], [0.0, 0.5], [np.nan, 0.0], [3.0, 0.0]])
    drawn = draw_keypoints(image, positions, radius=3.0)
    colors = keypoint_colors(4)
    np.testing.assert_allclose(drawn[0, 0], colors[0], atol=1e-6)
    np.testing.assert_allclose(drawn[24, 32], colors[1], atol=1e-6)
    changed = (drawn != 0.25).any(-1)
    rows, columns = np.nonzero(changed[:, 10:])
    assert (rows.mean(), columns.mean() + 10) == (24, 32)
    # Area of the disc, in which each edge pixel counts as the fraction of it that is covered.
    cover = (drawn[:, 10:, 0] - 0.25) / (colors[1, 0] - 0.25)
    assert cover.sum() == pytest.approx(math.pi * 9, rel=0.02)
    assert ((cover > 0.01) & (cover < 0.99)).sum() > 8


def test_color_maps_are_those_of_matplotlib():
    # Computed with matplotlib.colormaps["gist_rainbow"] at 0, 1/3 and 2/3.
    expected = [[1.0, 0.0, 0.16], [0.36036, 1.0, 0.0], [0.0, 0.561594, 1.0]]
    np.testing.assert_allclose(keypoint_colors(3, "gist_rainbow"), expected, atol=1e-6)
    drawn = draw_keypoints(np.zeros((9, 9, 1)), np.array([[0.0, 0.0]]), radius=2.0, colormap="gist_rainbow")
    np.testing.assert_allclose(drawn[4, 4], expected[0], atol=1e-6)


def test_an_unknown_color_map_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="`colormap` is 'viridis'; it must be hsv or gist_rainbow, others need"):
        PanelConfig(colormap="viridis")
    monkeypatch.setitem(sys.modules, "matplotlib", types.SimpleNamespace(colormaps={"one": lambda x: np.ones((1, 4))}))
    assert PanelConfig(colormap="one") and keypoint_colors(1, "one").shape == (1, 3)
    with pytest.raises(InputError, match="must be a color map of matplotlib"):
        PanelConfig(colormap="two")


def test_borders_are_white_at_both_sides():
    bordered = with_border(np.zeros((4, 6, 3)))
    assert bordered[:, [0, -1]].all() and not bordered[:, 1:-1].any()


def test_disc_between_two_pixels():
    drawn = draw_keypoints(np.zeros((9, 8, 1)), np.array([[0.0, 0.0]]), radius=2.0)
    np.testing.assert_allclose(drawn, drawn[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(drawn, drawn[::-1], atol=1e-6)


def test_colors_differ():
    colors = keypoint_colors(10)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 9 * np.eye(10)
    assert distances.min() > 0.3
    assert (colors >= 0).all() and (colors <= 1).all()


def test_panel_places_images_under_titles():
    gray, small = np.full((32, 48, 1), 0.5), np.full((16, 24, 1), 1.0)
    red = np.zeros((32, 48, 3))
    red[..., 0] = 1
    bare = panel([[gray, red], [small, gray]])
    assert bare.shape == (2 * 34, 2 * 50, 3)
    np.testing.assert_array_equal(bare[:32, :48], 128)
    np.testing.assert_array_equal(bare[:32, 50:98], np.broadcast_to([255, 0, 0], (32, 48, 3)))
    np.testing.assert_array_equal(bare[34:66, :48], 255)
    titled = panel([[gray, red], [small, gray]], ["source", "a longer title here"])
    extra = titled.shape[0] - bare.shape[0]
    np.testing.assert_array_equal(titled[extra:], bare)
    assert (titled[:extra, :50] < 128).any() and (titled[:extra, 50:] < 128).any()
    with pytest.raises(ValueError, match=r"rows of \[2, 1\] images under 2 titles"):
        panel([[gray, red], [gray]], ["a", "b"])


def test_rounding():
    values = np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf])
    np.testing.assert_array_equal(to_uint8(values[:, None, None]).ravel(), [0, 0, 128, 255, 255, 0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_png(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    read = np.array(Image.open(io.BytesIO(encode_png(image))))
    np.testing.assert_array_equal(read.reshape(image.shape), image)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_log_and_resume(tmp_path, monkeypatch):
    image = np.zeros((4, 6, 1), np.uint8)
    output = io.StringIO()
    with RunLog(tmp_path, 0, 100, output) as log:
        for step in (10, 20, 30):
            log.progress(step, {"loss": 1 / step, "other": 2.0}, 5.0, 0.25)
        log.images(20, {"panel": image})
    assert "step 30/100  loss 0.03333  other 2  5 steps/s  data wait 25%  ETA 0:00:14" in output.getvalue()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "lo')  # as if killed in the middle of a line
    with RunLog(tmp_path, 20, 100, output) as log:
        log.progress(25, {"loss": 0.5, "other": 3.0}, math.nan, math.nan)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 25]
    assert lines(tmp_path)[0] == {"step": 10, "loss": 0.1, "other": 2.0, "steps_per_second": 5.0, "data_wait": 0.25}
    assert lines(tmp_path)[2] == {"step": 25, "loss": 0.5, "other": 3.0}
    # If this name can be imported, TensorBoard uses its own file reader and skips the slow import of TensorFlow.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = {event.step: event.value for event in events.Scalars("loss")}
    assert scalars == pytest.approx({10: 0.1, 20: 0.05, 25: 0.5})
    shown = events.Images("panels/panel")
    assert [(event.step, event.width, event.height) for event in shown] == [(20, 6, 4)]
    assert np.array(Image.open(tmp_path / "panels" / "panel-00000020.png")).shape == (4, 6)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_bar_on_a_terminal(tmp_path):
    output = Terminal()
    with RunLog(tmp_path, 5, 10, output) as log:
        log.advance(7)
        log.progress(7, {"loss": 0.25}, 2.0, 0.5)
        log.say("a line")
    shown = output.getvalue()
    assert "a line\n" in shown and "7/10" in shown and "loss 0.25" in shown and "data wait 50%" in shown


def test_training_imports_no_tensorflow(tmp_path):
    code = (
        "import sys, pathlib, vidcomp_jax.training.loop, vidcomp_jax.training.run_log as r\n"
        "with r.RunLog(pathlib.Path(sys.argv[1]), 0, 1) as log: log.progress(1, {'loss': 1.0}, 1.0, 0.0)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    root = pathlib.Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, timeout=100).returncode == 0
