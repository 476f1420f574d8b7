"""Building the two caches of a trace again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from shadow.switch import implementation
from validator.config import ValidationConfig
from validator.errors import LockstepError
from validator.proof.shrink import Setting
from validator.proof.trial import Trial
from validator.replay.bodies import Body
from validator.replay.kinds import kind_of


class CannotBuild(LockstepError):
    """A cache of a trace can't be built here."""


class Sides:
    """Both caches of a trace, to be built as often as they are wanted.

    Args:
        about: First line of the trace's index, and ``layers``, how many an append cache was seen to have.
        control: ``legacy``, ``new`` or ``package.module:Class`` in place of the control that was recorded.
        candidate: The same in place of the candidate.
        primary: ``control`` or ``candidate`` in place of the one that was recorded.
        kept: Entries that are known whole; see ``Program``.

    Attributes:
        config: What the sizes of the caches follow from.
        env_num: Number of environments.
        primary: Whose answers a host received.
        classes: What stands on each side, as ``package.module:Class``.
        same: Whether these are the classes that were recorded.
        kind: The shape of both.

    Raises:
        CannotBuild: If a class can't be imported, or the trace does not say what it was built of.
    """

    def __init__(
        self,
        about: Mapping[str, Any],
        control: str = "",
        candidate: str = "",
        primary: str = "",
        kept: Mapping[Body, Any] | None = None,
    ) -> None:
        self.kept = kept or {}
        recorded = about.get("classes")
        recorded = recorded if isinstance(recorded, Mapping) else {}
        given = {"control": control, "candidate": candidate}
        self._makes = {side: _found(side, name, str(recorded.get(side, ""))) for side, name in given.items()}
        self._built: dict[str, Callable[[], Any]] = {}
        self.classes = {side: name for side, (name, _) in self._makes.items()}
        self.same = not (control or candidate)
        self.primary = primary or ("candidate" if about.get("primary") == "candidate" else "control")
        self.kind = kind_of(about)
        env_num, config = about.get("env_num"), about.get("config")
        self.env_num = env_num if type(env_num) is int and 0 < env_num <= 1 << 20 else 1
        self.config = self.kind.config(about, dict(config) if isinstance(config, Mapping) else {}, self.env_num)

    @property
    def setting(self) -> Setting:
        """What the recorded caches were built of."""
        return Setting(self.config, self.env_num, self.kind.sizes_in(self.config))

    def build(self, setting: Setting | None = None) -> tuple[Any, Any]:
        """Build control and candidate, of the recorded sizes or of others.

        Raises:
            CannotBuild: If one raises, or is of another shape.
        """
        built = []
        for side, (name, make) in self._makes.items():
            text = self.text(side, setting)
            try:
                if text not in self._built:
                    self._built[text] = eval(f"lambda: {text}", self.kind.names() | {called(name): make})
                cache = self._built[text]()
            except Exception as problem:
                raise CannotBuild(
                    f"the {side} {name} can't be built by {text} ({type(problem).__name__}: {problem!s:.200}); name "
                    f"one that can: --{side} package.module:Class"
                ) from None
            if not self.kind.shape(self.config).takes(cache):
                raise CannotBuild(
                    f"the {side} {name} is of another shape than what was recorded, {self.kind.name}: name one of that"
                )
            built.append(cache)
        return built[0], built[1]

    def text(self, side: str, setting: Setting | None = None) -> str:
        """Return the expression by which a side is built."""
        name, make = self._makes[side]
        config, env_num, _ = setting or self.setting
        return f"{called(name)}({self.kind.arguments(make, config, env_num)})"

    def trial(self, setting: Setting, config: ValidationConfig, looks: bool = False) -> Trial:
        """Put both, of a setting, behind one; ``looks`` at the state of the process around the first calls.

        Raises:
            CannotBuild: If they can't be compared.
        """
        sides, kind = self.build(setting), self.kind
        try:
            shape = kind.shape(setting.config)
            return Trial(*sides, self.primary, config, kind.bodies(self.kept), shape=shape, look_first=int(looks))
        except ValueError as problem:
            raise CannotBuild(str(problem)) from None


def imported(name: str) -> tuple[str, str]:
    """Split what ``implementation`` takes into module and class."""
    named = {"legacy": "shadow.legacy:LegacyKVCache", "new": "shadow.manager:KVCacheManager"}.get(name, name)
    module, _, kind = named.partition(":")
    return module, kind


def called(name: str) -> str:
    """Return the name of a class as a test has it."""
    return imported(name)[1]


def _found(side: str, given: str, recorded: str) -> tuple[str, Callable[..., Any]]:
    """Find the class that is asked for, else that which was recorded; its name is split where a module ends."""
    names = [given] if given else _names(recorded)
    for name in names:
        try:
            return name, implementation(name)
        except ValueError as problem:
            said = problem
    if given:
        raise CannotBuild(str(said)) from None
    shown = recorded or "which the trace does not name"
    raise CannotBuild(
        f"the {side}, {shown}, can't be imported here; name what stands in its place: --{side} package.module:Class"
    )


def _names(recorded: str) -> list[str]:
    """Return how a class may be asked for: a module's name has no capital letters, mostly, but nobody has to."""
    module, _, kind = recorded.rpartition(".")
    if not module or "<" in recorded:
        return []
    try:
        find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return []
    return [f"{module}:{kind}"] if kind.isidentifier() else []
