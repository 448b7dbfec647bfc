"""The HTML page of clip players and the plot of loss curves."""

import base64
import io
import json
import re

import numpy as np
from PIL import Image

from vidcomp_jax.media.player import Player, Row, write_page
from vidcomp_jax.training.curves import draw_curves, read_scalars


def clips_of(path):
    return json.loads(re.search(r'id="player-data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_players_hold_every_frame_exactly(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 1), np.uint8)
    positions = np.zeros((5, 2, 2), np.float32)
    players = [Player("truth", frames.astype(np.float32) / 255, positions), Player("still", np.ones((1, 8, 12, 3)))]
    write_page(tmp_path / "page.html", [Row("a <clip>", players)], title="A & B", fps=12.5)
    text, data = (tmp_path / "page.html").read_text(), clips_of(tmp_path / "page.html")
    assert "<h3>a &lt;clip&gt;</h3>" in text and "<title>A &amp; B</title>" in text
    assert (data["fps"], data["frames"], len(data["clips"])) == (12.5, 5, 2)
    clip = data["clips"][0]
    kind, encoded = clip["image"].split(",")
    assert kind == "data:image/png;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    for t in range(5):
        y, x = t // clip["columns"] * 8, t % clip["columns"] * 12
        np.testing.assert_array_equal(sheet[y : y + 8, x : x + 12], np.broadcast_to(frames[t], (8, 12, 3)))
    assert np.shape(clip["points"]) == (5, 2, 2) and "points" not in data["clips"][1]
    for control in ("play", "back", "forward", "slider", "speed", "points"):
        assert f'id="{control}"' in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_large_clips_travel_as_jpeg(tmp_path):
    write_page(tmp_path / "page.html", [Row("r", [Player("p", np.zeros((9, 256, 256, 3)))])], title="t", fps=1.0)
    assert clips_of(tmp_path / "page.html")["clips"][0]["image"].startswith("data:image/jpeg;base64,")


def test_curves_are_drawn_from_the_log(tmp_path):
    lines = [{"step": 1, "loss": 2.0, "steps_per_second": 9.0}, {"step": 2, "loss": 1.0}, {"step": 2, "other": 5.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves = read_scalars(tmp_path / "metrics.jsonl")
    assert curves == {"loss": [(1, 2.0), (2, 1.0)], "steps_per_second": [(1, 9.0)], "other": [(2, 5.0)]}
    picture = draw_curves(curves).astype(int)
    line = picture[..., 2] - picture[..., 0] > 100  # blue
    assert line[:, : picture.shape[1] // 2].sum() > 200  # a falling line across the first chart
    assert draw_curves({}).shape == (160, 640, 3)
