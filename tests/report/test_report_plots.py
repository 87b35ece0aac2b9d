from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from report_sample import result

from scrubjay.report import plots
from scrubjay.report.plot_labels import Mark, apart, label_points
from scrubjay.report.table import rows


def texts(figure):
    tree = ElementTree.fromstring(plots.svg(figure))
    return [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def runs():
    return [
        result(method, seed, score=0.2 + 0.1 * i + 0.06 * seed)
        for i, method in enumerate(("l2", "mmd", "joint"))
        for seed in (0, 1)
    ]


def test_lines_name_every_method_and_the_backbone(runs):
    found = texts(plots.over_sessions(runs, "seen", "map_at_r"))
    assert {"l2", "mmd", "joint", "no training", "g0", "g1", "g2", "mAP@R of seen classes, %"} <= set(found)


def test_old_classes_begin_with_the_second_generation(runs):
    found = texts(plots.over_sessions(runs, "old", "recall@1"))
    assert "g1" in found
    assert "g0" not in found


def test_trade_off_places_methods_between_both_references(runs):
    found = texts(plots.trade_off(rows(runs)))
    assert {"l2", "mmd", "joint", "keeps all images", "before: g0 on its own gallery"} <= set(found)


def test_maps_show_means_over_seeds_on_one_scale(runs):
    maps = plots.heat_maps(runs, "accuracy", "map_at_r")
    assert list(maps) == ["l2", "mmd", "joint"]
    assert texts(maps["mmd"]).count("43") == 3  # (0.40 + 0.46) / 2 on the diagonal
    assert texts(maps["mmd"]).count("33") == 3 + 2  # below it, and one session ahead of it
    assert "queries by" in texts(plots.heat_maps(runs, "compatibility", "map_at_r")["l2"])


def test_loss_terms_are_named(runs):
    assert {"ce", "mmd", "g0", "g1", "g2"} <= set(texts(plots.loss_curves(runs[0])))


def test_long_curves_are_thinned():
    long = {"0": {"ce": [1.0 + step % 7 for step in range(20_000)]}}
    assert len(plots.svg(plots.loss_curves(result(curves=long)))) < 30_000


@pytest.mark.parametrize("curves", [{}, {"0": {}}, {"0": {"ce": [None, None]}}, None])
def test_nothing_trained_is_no_plot(curves):
    assert plots.loss_curves(result(curves=curves)) is None


@pytest.mark.parametrize("values", [[0.0, 0.0], [-0.1, 0.2], [0.3], [1.0, None]])
def test_any_term_can_be_drawn(values):
    assert "odd $term_" in texts(plots.loss_curves(result(curves={"0": {"odd $term_": values}})))


def test_one_session_draws_what_there_is():
    runs = [result(sessions=1)]
    assert plots.over_sessions(runs, "old", "map_at_r") is None
    assert plots.trade_off(rows(runs)) is None
    assert "mmd" in texts(plots.over_sessions(runs, "seen", "map_at_r"))
    assert list(plots.heat_maps(runs, "accuracy", "map_at_r")) == ["mmd"]


def test_what_was_not_measured_is_left_out(runs):
    blind = result("l2", accuracy={"map_at_r": [[None]]}, compatibility=None)
    assert plots.heat_maps([blind], "accuracy", "map_at_r") == {}
    assert plots.heat_maps([blind], "compatibility", "map_at_r") == {}
    assert plots.over_sessions([blind], "unseen", "map_at_r") is None


def test_svgs_are_repeatable_and_leave_global_settings_alone(runs):
    before = dict(mpl.rcParams)
    first, again = (plots.svg(plots.over_sessions(runs, "seen", "map_at_r")) for _ in range(2))
    assert first == again
    assert dict(mpl.rcParams) == before
    assert "pyplot" not in Path(plots.__file__).read_text(encoding="utf-8")


def test_a_figure_is_saved_in_other_formats_too(runs, tmp_path):
    plots.trade_off(rows(runs)).savefig(tmp_path / "plot.pdf")
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF")


def test_twelve_methods_all_look_different():
    looks = plots._looks([f"m{i}" for i in range(12)] + ["joint"])
    assert len(set(looks)) == 13


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted))
def test_labels_keep_their_distance_below_the_top(wanted):
    places = apart(wanted, gap=0.075)
    assert all(above - below >= 0.075 - 1e-5 for below, above in pairwise(places))
    assert places[-1] <= 1


def test_names_of_close_points_do_not_cover_one_another():
    figure = Figure()
    axes = figure.add_subplot(xlim=(0, 100), ylim=(0, 100))
    label_points(
        figure, axes, [Mark(50, 50 + i / 10, name, "#0072B2") for i, name in enumerate(("mmd", "lwf", "l2", "ewc"))]
    )
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["mmd", "lwf", "l2", "ewc"]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)


def test_names_stay_inside():
    figure = Figure()
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    label_points(figure, axes, [Mark(0.99, 0.5, "finetune", "#0072B2")])
    assert axes.texts[0].get_window_extent().x1 < axes.bbox.x1
