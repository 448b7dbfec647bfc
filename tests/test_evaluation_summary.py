"""Means, intervals, the best of several samples and the table, from made-up scores."""

import itertools

import numpy as np
import pytest

from tests.support.made_up_scores import batch
from vidcomp_jax.evaluation.batches import CEILING
from vidcomp_jax.evaluation.frechet import frechet_distance
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.summary import Estimate, estimate, expected_best, gather, summarize
from vidcomp_jax.evaluation.table import NO_FVD, NO_LPIPS, make_table, to_latex, to_markdown


def test_batches_are_joined_over_clips():
    first, second = batch(0), batch(10, count=2)
    found = gather([first, second])
    assert set(found) == {"truth", "net_1", "blend", CEILING}
    np.testing.assert_array_equal(found["net_1"]["l1"], np.concatenate([first["net_1/l1"], second["net_1/l1"]]))
    assert found["net_1"]["seconds"].tolist() == [0.25, 0.25]


def test_rows_are_means_and_the_best_by_one_metric():
    found = gather([batch(0)])
    summary = summarize(found, Protocol(num_frames=5, best_by="psnr"))
    assert [row.title for row in summary.rows] == ["net_1, mean of 3", "net_1, best of 3", "blend", CEILING]
    mean, best = summary.rows[:2]
    net = found["net_1"]
    chosen = net["psnr"].mean(-1).argmax(1)
    for name in ("l1", "psnr", "ssim", "jitter"):
        per_clip = net[name].mean(-1) if net[name].ndim > 2 else net[name]
        assert mean.estimates[name].value == pytest.approx(per_clip.mean())
        assert best.estimates[name].value == pytest.approx(per_clip[np.arange(6), chosen].mean())
    np.testing.assert_allclose(summary.by_frame["net_1"]["ssim"], net["ssim"].mean((0, 1)))
    assert mean.estimates["seconds"] == Estimate(0.25, None, None) and "seconds" not in best.estimates
    assert "diversity" in mean.estimates and "diversity" not in summary.rows[2].estimates


def test_each_metric_may_have_its_own_best_sample():
    found = gather([batch(0)])
    best = summarize(found, Protocol(num_frames=5, best_by="each")).rows[1]
    values = {name: found["net_1"][name].mean(-1) for name in ("l1", "ssim")}
    assert best.estimates["l1"].value == pytest.approx(values["l1"].min(1).mean())
    assert best.estimates["ssim"].value == pytest.approx(values["ssim"].max(1).mean())


def test_best_of_fewer_samples_is_the_mean_over_all_choices_of_them():
    rng = np.random.default_rng(0)
    values, order = rng.random((2, 4, 5))
    found = expected_best(values, order)
    for clip, count in itertools.product(range(4), range(1, 6)):
        choices = [list(choice) for choice in itertools.combinations(range(5), count)]
        expected = np.mean([values[clip, choice[int(np.argmax(order[clip, choice]))]] for choice in choices])
        assert found[clip, count - 1] == pytest.approx(expected)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    resamples = rng.integers(0, 40, (1000, 40))
    inside = []
    for _ in range(200):
        found = estimate(rng.exponential(size=40), resamples)
        inside.append(found.low < 1 < found.high)
    assert 0.85 < np.mean(inside) < 0.99
    assert estimate(np.ones(1), resamples) == Estimate(1.0)


def test_the_frechet_distance_is_the_mean_over_samples():
    found = gather([batch(0, features=True)])
    summary = summarize(found, Protocol(num_frames=9), i3d="i3d400")
    assert summary.fvd_name == "fvd_i3d400_n6_t9"
    net = found["net_1"]["features"]
    expected = np.mean([frechet_distance(found["truth"]["features"], net[:, s]) for s in range(3)])
    assert summary.fvd["net_1"].value == pytest.approx(expected)
    assert summary.fvd["net_1"].infinite is None  # six clips are too few
    many = gather([batch(0, count=20, features=True)])
    assert len(summarize(many, Protocol(num_frames=9), i3d="i3d400").fvd["net_1"].infinite.sizes) > 5


def test_the_table_prints_what_was_computed_and_names_what_was_not():
    summary = summarize(gather([batch(0)]), Protocol(num_frames=5))
    table = make_table(summary)
    names = [column.name for column in table.columns]
    assert names == ["l1", "psnr", "ssim", "lpips", "jitter", "diversity", "seconds", "fvd"]
    assert table.notes == [NO_LPIPS, NO_FVD]
    for cells in table.cells:
        assert cells[names.index("lpips")].text == cells[names.index("fvd")].text == "-"
    text = to_markdown(table)
    psnr = [row.estimates["psnr"] for row in summary.rows]
    lines = text.splitlines()[2:6]
    for line, title, x in zip(lines, table.titles, psnr, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[0] == title
        assert cells[2].replace("*", "") == f"{x.value:.2f} [{x.low:.2f}, {x.high:.2f}]"
        # The ceiling has the highest value, but is no method.
        assert cells[2].startswith("**") == (x is max(psnr[:3]))
    assert "`--lpips=FILE`" in text and "jitter (truth 0.5000)" in text


def test_the_table_in_latex():
    summary = summarize(gather([batch(0, features=True)]), Protocol(num_frames=9), i3d="i3d400")
    text = to_latex(make_table(summary))
    assert r"net\_1, mean of 3 & " in text and r"fvd\_i3d400\_n6\_t9 $\downarrow$" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 4 and all(line.endswith(r"\\") and line.count("&") == 8 for line in body)
    assert r"\textbf{" in text and NO_LPIPS in text and NO_FVD not in text
