"""The report of an evaluation: what it holds, that it is self-contained, and that names cannot inject markup."""

import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.support.made_up_scores import make_report
from vidcomp_jax.evaluation.plots import Chart, Curve, draw

EVIL = '"><img src=x onerror=alert(1)>'
NAMES = [EVIL, *(f"clip{i}" for i in range(1, 6))]


class Elements(html.parser.HTMLParser):
    """Collects the tags with their attributes, the text of each kind of element, and unbalanced tags."""

    VOID = frozenset({"meta", "img", "input", "source"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open, self.unbalanced = [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("report"), NAMES)


@pytest.fixture(scope="module")
def page(report):
    return Elements(report.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_loads_nothing(report, page):
    assert not page.unbalanced and not page.open
    addresses = [value for _, a in page.tags for name, value in a.items() if name in ("src", "srcset", "href")]
    assert addresses and all(address.startswith("data:image/") for address in addresses)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http://" not in report.read_text() and "https://" not in report.read_text()


def test_names_and_settings_cannot_inject_markup(page):
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert len(page.all("script")) == 2 and "<script>alert(1)" in "".join(page.texts["pre"])
    assert EVIL in page.texts["h3"]
    assert any(EVIL in attributes["aria-label"] for attributes in page.all("canvas"))


def test_players_show_every_clip_and_method(page):
    labels = [attributes["aria-label"] for attributes in page.all("canvas")]
    titles = ["truth", "net_1 1", "net_1 best of 3", "blend", "true keypoints"]
    assert labels == [f"{title}, {name}" for name in (EVIL, "clip3") for title in titles]
    data = json.loads(next(text for text in page.texts["script"] if text.startswith("{")))
    assert [("points" in clip) for clip in data["clips"]] == [title != "blend" for title in titles] * 2


def test_everything_has_a_name_for_screen_readers(page):
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") for attributes in page.all("section"))
    assert page.texts["h2"] == ["Scores", "Clips", "Curves", "Panels", "Training", "Settings"]
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_table_can_be_sorted_by_every_column(page):
    heads = [attributes for attributes in page.all("th") if attributes["scope"] == "col"]
    rows = [attributes for attributes in page.all("th") if attributes["scope"] == "row"]
    assert [row["data-value"] for row in rows] == ["net_1, mean of 3", "net_1, best of 3", "blend", "true keypoints"]
    values = [attributes["data-value"] for attributes in page.all("td")]
    assert len(values) == len(rows) * (len(heads) - 1)
    assert all(value == "" or np.isfinite(float(value)) for value in values)
    assert {head["data-better"] for head in heads} == {"", "lower", "higher"}


def test_plots_and_panels_are_files_as_well(report):
    folder = report.parent
    assert {path.name for path in (folder / "plots").iterdir()} == {"by_frame.png", "best_of.png", "losses-gan.png"}
    panels = sorted((folder / "panels").iterdir())
    assert [path.name for path in panels] == ["clip-1.png", "clip-2.png"]
    for path in [*panels, *(folder / "plots").iterdir()]:
        assert min(Image.open(path).size) > 100
    assert {path.name for path in folder.iterdir()} == {"plots", "panels", "report.html"}


def test_a_chart_draws_its_lines_in_both_schemes():
    chart = Chart("loss", "step", [Curve("up", [0, 1, 2], [0, 1, 2]), Curve("down", [0, 1, 2], [2, 1, 0])])
    light, dark = (np.asarray(Image.open(io.BytesIO(draw([chart], dark=d))).convert("RGB")) for d in (False, True))
    assert light.mean() > 200 and dark.mean() < 60
    for picture in (light, dark):
        blue = (picture.astype(int)[..., 2] - picture[..., 0] > 100).sum()
        orange = (picture.astype(int)[..., 0] - picture[..., 2] > 150).sum()
        assert blue > 200 and orange > 100
    assert re.match(rb"\x89PNG", draw([chart]))
