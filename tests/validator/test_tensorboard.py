"""Live figures: all that was counted, in a few points however many windows there are."""

from __future__ import annotations

from collections import defaultdict

from tests.guards import guards
from tests.reports.records_for_tests import window
from validator.tensorboard import LiveFigures

Points = dict[str, list[tuple[float, int]]]


class Board:
    """A host's writer, which keeps what it is given."""

    def __init__(self) -> None:
        self.points: Points = defaultdict(list)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.points[tag].append((value, step))


def shown(times_s: list[float], last: bool = True) -> Points:
    board = Board()
    figures = LiveFigures(board)
    for seq, t_s in enumerate(times_s):
        windows = window(seq, cache="collect", t_s=t_s, env_step=10 * seq)
        figures(windows, last=last and seq == len(times_s) - 1)
    return board.points


def test_the_first_window_is_shown_at_once_at_its_env_step() -> None:
    points = shown([0.2], last=False)

    assert points["KVLockstep/collect/divergences"] == [(sum(window(0).divergences.values()), 0)]
    assert points["KVLockstep/collect/overhead_share_of_wall"] == [(window(0).harness_ns / 1e9 / 0.2, 0)]


@guards("validator/tensorboard.py", "not last and ", "")
@guards("validator/tensorboard.py", "        del self._waiting[cache]\n", "")
def test_what_is_shown_adds_up_to_all_that_was_counted() -> None:
    times_s = [5.0 * number for number in range(20)]
    points = shown(times_s)

    counts = window(0).lookups["init"]
    assert sum(counts.values())
    for outcome in counts:
        each = sum(table.get(outcome, 0) for table in window(0).lookups.values())
        assert sum(value for value, _ in points[f"KVLockstep/collect/lookups/{outcome}"]) == 20 * each
    steps = [step for _, step in points["KVLockstep/collect/divergences"]]
    assert steps == [0, *range(30, 190, 30), 190]


def test_a_long_run_has_few_points() -> None:
    day_s = 24 * 3600
    points = shown([5.0 * number for number in range(day_s // 5)])

    assert len(points["KVLockstep/collect/divergences"]) < 600


def test_the_share_of_wall_is_of_the_time_since_the_point_before() -> None:
    points = shown([0.0, 5.0, 10.0, 15.0, 16.0])

    share = window(0).harness_ns / 1e9
    assert [value for value, _ in points["KVLockstep/collect/overhead_share_of_wall"]] == [3 * share / 15, share / 1]


def test_pairs_have_points_of_their_own() -> None:
    board = Board()
    figures = LiveFigures(board)
    for cache in ("collect", "eval", "collect"):
        figures(window(0, cache=cache, t_s=1.0))

    assert len(board.points["KVLockstep/collect/divergences"]) == 1
    assert len(board.points["KVLockstep/eval/divergences"]) == 1
