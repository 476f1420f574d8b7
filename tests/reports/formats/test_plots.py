"""Plots: axes and scales that neither hide nor exaggerate."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from reports.content.heat_maps import Grid
from reports.formats.html import svg
from reports.formats.html.view import of_run
from reports.reader import read_run
from tests.reports.records_for_tests import window, write_run
from validator.gate.judgement import judge


def grid(*values: float) -> Grid:
    return Grid(("L0 K",), tuple(map(str, range(len(values)))), (values,))


class TestHeat:
    def test_differences_of_about_one_size_look_so(self) -> None:
        least, greatest = svg.bounds(grid(0.0, 2.0, 4.0))

        assert (least, greatest) == (0.4, 4.0)
        assert svg.level(2.0, least, greatest) == "6"
        assert svg.level(4.0, least, greatest) == "8"
        assert svg.level(0.0, least, greatest) == "0"

    def test_the_scale_ends_six_decades_down(self) -> None:
        assert svg.bounds(grid(1e-30, 1.0)) == (1e-6, 1.0)

    @pytest.mark.parametrize("tiny", [5e-324, 1e-310])
    def test_the_smallest_numbers_have_a_colour(self, tiny: float) -> None:
        assert svg.level(tiny, *svg.bounds(grid(tiny))) == "8"

    def test_what_can_not_be_measured_has_a_colour_of_its_own(self) -> None:
        bounds = svg.bounds(grid(math.inf, math.nan))

        assert [svg.level(value, *bounds) for value in (math.inf, math.nan)] == ["x", "n"]


class TestHitRates:
    @pytest.mark.parametrize(("n_missed", "lowest"), [(0, "99.0%"), (5, "90.0%"), (50, "0%")])
    def test_the_axis_begins_where_the_curves_can_be_told_apart(
        self, tmp_path: Path, n_missed: int, lowest: str
    ) -> None:
        lookups = {"init": {"both_hit_equal": 100 - n_missed, "both_miss": n_missed}}
        run = read_run(write_run(tmp_path, windows=tuple(window(seq, lookups=lookups) for seq in range(6))))

        plot = of_run(run, judge([run]), 1, 1)["training"]["hit_rate"]

        assert re.findall(r"[\d.]+%", plot)[0] == lowest
        assert plot.index("line candidate") < plot.index("line control"), "the dashed line is drawn on top"


def test_every_latency_plot_has_its_numbers(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))

    for part in of_run(run, judge([run]), 1, 10)["latency"]:
        for side in ("control", "candidate"):
            assert sum(shares.get(side, 0) for _, shares in part["points"]) == pytest.approx(1)
