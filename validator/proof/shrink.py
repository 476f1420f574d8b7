"""The shortest program that still shows what a long one showed: cut first, then small caches, then plain names.

Every part of a program is a program: a cache takes its operations in any order. So delta debugging is sound, and what
makes it fast is to try first what a person would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

from shadow.operation import Given
from validator.proof.stream import Step

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
_STRATEGY = "cache_eviction_strategy"
_PAIRS_MOST = 16  # operations of which each two are left out
_MERGED_MOST = 8  # keys of which each two are tried as one


class Setting(NamedTuple):
    """What caches a program is played on.

    Attributes:
        config: What the sizes of their pools follow from.
        env_num: Number of environments.
        sizes: Names of what in the config may be made smaller, as one; none where nothing may.
    """

    config: Mapping[str, Any]
    env_num: int
    sizes: tuple[str, ...] = ("num_simulations", "max_cache_size")


class Shrunk(NamedTuple):
    """A program and the caches that it fails on."""

    steps: tuple[Step, ...]
    setting: Setting


Fails = Callable[[Sequence[Step], Setting], bool]


class TimeIsUp(Exception):
    """The budget of a shrinker is spent."""


class Shrinker:
    """Makes a failing program shorter and plainer, as long as it fails in the same way.

    Args:
        fails: Plays a program on fresh caches of a setting, and tells whether it still fails in that way.
        seconds: Time that it may take.
        on_progress: Told how long the shortest program is, at each that is found.

    Attributes:
        best: The plainest program found so far; None before one failed.
        played: Operations played.
    """

    def __init__(self, fails: Fails, seconds: float = 60.0, on_progress: Callable[[int], None] | None = None) -> None:
        self.best: Shrunk | None = None
        self.played = 0
        self._fails = fails
        self._end = time.monotonic() + seconds
        self._tell = on_progress

    def first(self, candidates: Iterable[Sequence[Step]], setting: Setting) -> bool:
        """Begin with the first of some programs that fails; False if none does."""
        return any(self.fails(steps, setting) for steps in candidates)

    def fails(self, steps: Sequence[Step], setting: Setting | None = None) -> bool:
        """Try a program, and go on from it if it fails.

        Raises:
            TimeIsUp: If the budget is spent.
        """
        if time.monotonic() > self._end:
            raise TimeIsUp
        setting = setting or (self.best.setting if self.best else Setting({}, 1))
        self.played += len(steps)
        if not self._fails(steps, setting):
            return False
        self.best = Shrunk(tuple(steps), setting)
        if self._tell is not None:
            self._tell(len(steps))
        return True

    def minimise(
        self,
        wider: Sequence[Step] = (),
        plainer: Sequence[Callable[[Any], Any]] = (),
        settings: Sequence[Setting] = (),
    ) -> Shrunk:
        """Make the best so far as short and plain as it gets within the budget.

        Args:
            wider: A longer stretch of the same operations, which may show the same on smaller caches.
            plainer: Each makes a plainer recipe of an entry's; all of a program's are tried at once.
            settings: Plainer caches, of one env.

        Returns:
            The best found, also where time is up or somebody interrupted.
        """
        assert self.best is not None, "nothing failed yet"
        try:
            self._smaller(wider)
            self._cut()
            for make in plainer:
                self._with(entry=make)
            any(self.fails(_in_one_env(self._steps), setting) for setting in settings)
            self._names()
            self._down()
            self._names()
            self._cut()
        except (TimeIsUp, KeyboardInterrupt):
            pass
        return self.best

    # -- the ways to make one plainer ----------------------------------------------------------------------------------

    @property
    def _steps(self) -> tuple[Step, ...]:
        assert self.best is not None
        return self.best.steps

    def _cut(self) -> None:
        shrink(self._steps, self.fails)

    def _smaller(self, wider: Sequence[Step]) -> None:
        """Try the smallest caches, else an eviction takes as many sets as a pool has slots.

        What fails on large caches need not fail on small ones, where the same fault mostly shows elsewhere in a wider
        stretch of operations.
        """
        assert self.best is not None
        own, now = self._steps, self.best.setting
        for size in _SIZES if now.sizes else ():
            if size >= _size(now) // now.env_num:
                return
            for steps, env_num in product(filter(None, (own, wider)), dict.fromkeys((1, now.env_num))):
                if self.fails(_in_one_env(steps) if env_num == 1 else steps, self._of_size(size, env_num)):
                    return

    def _down(self) -> None:
        """Try ever smaller caches, and leave out as many operations as there are slots less: what filled these."""
        assert self.best is not None
        while self.best.setting.sizes:
            size = _size(self.best.setting)
            for smaller in [other for other in reversed(_SIZES) if other < size][:2]:
                if any(self.fails(steps, self._of_size(smaller, 1)) for steps in self._with_less(size - smaller)):
                    self._cut()
                    break
            else:
                return

    def _with_less(self, slots: int) -> Iterator[Sequence[Step]]:
        own = tuple(_in_one_env(self._steps))
        yield own
        for length in dict.fromkeys((slots, max(1, slots - 1), slots + 1, 2 * slots)):
            for start in range(len(own) - length):
                yield own[:start] + own[start + length :]
        if len(own) <= _PAIRS_MOST:
            for one, other in combinations(range(len(own)), 2):
                yield own[:one] + own[one + 1 : other] + own[other + 1 :]

    def _of_size(self, size: int, env_num: int) -> Setting:
        assert self.best is not None
        kept = {name: value for name, value in self.best.setting.config.items() if name == _STRATEGY}
        kept = {name: value for name, value in kept.items() if value != "fifo"}
        sizes = self.best.setting.sizes
        return Setting({**dict.fromkeys(sizes, size), **kept}, env_num, sizes)

    def _names(self) -> None:
        """Call keys 0, 1, 2, by first use, two of them one where that still fails, and entries likewise."""
        numbers = {key: number for number, key in enumerate(self._named("key"))}
        self._with(key=lambda key: numbers.get(key, key))
        self._merge("key")
        self._with(key=_least)
        entries = self._named("entry")
        if hasattr(next(iter(entries), None), "digest"):
            self._with(entry={one: one._replace(digest=number) for number, one in enumerate(entries)}.get)
        self._merge("entry")
        self._with(env_id=lambda _: 0)

    def _merge(self, name: str) -> None:
        """Let two values of a field be one, wherever that still fails."""
        values = self._named(name)
        for later in reversed(values[1:_MERGED_MOST]):
            for earlier in values[: values.index(later)]:
                if self._with(**{name: lambda value, a=earlier, b=later: a if value == b else value}):
                    break

    def _named(self, name: str) -> list[Any]:
        """List the values of a field that are names for something, by first use."""
        values = (getattr(step, name) for step in self._steps)
        return list(dict.fromkeys(value for value in values if value is not None and not isinstance(value, Given)))

    def _with(self, **of: Callable[[Any], Any]) -> bool:
        """Try the program with other values of a field."""
        (name, change), *_ = of.items()
        changed = [
            step if getattr(step, name) is None else step._replace(**{name: change(getattr(step, name))})
            for step in self._steps
        ]
        return tuple(changed) != self._steps and self.fails(changed)


def _size(setting: Setting) -> int:
    """Return how many entries the pool of all envs may hold, as far as the config says."""
    said = setting.config.get(setting.sizes[0])
    return said * setting.env_num if type(said) is int else _SIZES[-1] * setting.env_num


def _least(key: Any) -> Any:
    """Make the numbers of what a verb is given as small as they get."""
    if not isinstance(key, Given):
        return key
    return Given(max(-1, min(1, each)) if type(each) is int else each for each in key)


def _in_one_env(steps: Sequence[Step]) -> list[Step]:
    return [step if step.env_id is None else step._replace(env_id=0) for step in steps]


def shrink(stream: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Cut a failing stream down to one from which no step can be taken without its ceasing to fail.

    Args:
        stream: A stream that fails.
        fails: Plays a stream on fresh caches and tells whether it still fails.

    Returns:
        The steps that are needed, in order.
    """
    # What comes after the first failure is not needed: find the shortest failing beginning by halving.
    low, high = 0, len(stream)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(stream[:middle]) else (middle, high)
    needed = list(stream[:high])
    size = max(1, len(needed) // 2)
    while True:  # delta debugging by ever smaller pieces (Zeller and Hildebrandt 2002)
        start, cut = 0, False
        while start < len(needed):
            shorter = needed[:start] + needed[start + size :]
            if shorter and fails(shorter):
                needed, cut = shorter, True
            else:
                start += size
        if size == 1 and not cut:
            return needed
        if not cut or size > len(needed):
            size = max(1, size // 2)


def shortest(stream: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> tuple[Step, ...]:
    """Return the plainest program that fails on the caches that a stream fails on, which stay as they are."""
    shrinker = Shrinker(lambda steps, _: fails(steps))
    found = shrinker.first([stream], Setting({}, 1, sizes=()))
    return shrinker.minimise().steps if found else tuple(stream)
