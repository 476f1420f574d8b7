"""Hooks LightZero: one call before a training is built, no line of LightZero changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from inspect import isfunction
from typing import Any

from shadow.hosts.lightzero.errors import LightZeroMismatch, missing
from shadow.hosts.lightzero.inline import COPY_INIT, COPY_RECUR, ROOTS, SEARCH
from shadow.hosts.lightzero.installation import Installation, OpenValidation
from shadow.hosts.lightzero.policies import told_progress, watch_learner, watch_policy

_WORLD_MODEL = "lzero.model.unizero_world_models.world_model"
_EXPECTED = ("_initialize_cache_structures", COPY_INIT, COPY_RECUR, SEARCH, ROOTS, "clear_caches")
_MARK = "_kv_lockstep_hooked"
_DEPTH = "_kv_lockstep_depth"

_installation: Installation | None = None


def install(open_validation: OpenValidation | None = None, *, force: bool = False) -> Installation:
    """Make ``world_model_cfg.cache_validation_mode=True`` work in this process.

    Without that flag in its config a world model is built as ever. ``cache_validation=dict(...)`` beside the flag holds
    the settings of ``validator.ValidationConfig``; ``out`` is ``<exp_name>/validation`` where it is left out. A second
    call only changes the two arguments.

    Args:
        open_validation: Opens the session, given settings and what ran; None for the installed validator.
        force: Validate every world model, whatever its config says.

    Returns:
        What was put in place; ``validation`` in it is the session once a validated model was built.

    Raises:
        LightZeroMissing: If LightZero can't be imported.
        LightZeroMismatch: If its internals do not look as expected; nothing is hooked then.
    """
    global _installation
    if _installation is not None:
        _installation.reopen(open_validation, force)
        return _installation
    if find_spec("lzero") is None:
        raise missing("LightZero")
    try:
        world_model = import_module(_WORLD_MODEL)
    except ModuleNotFoundError as absent:
        if absent.name is not None and _WORLD_MODEL.startswith(absent.name):
            raise LightZeroMismatch(
                f"this LightZero has no module {absent.name}; looked for WorldModel in {_WORLD_MODEL}"
            ) from None
        raise missing(f"LightZero is there, but {absent.name}, which it needs,") from absent
    base = getattr(world_model, "WorldModel", None)
    absent_names = [name for name in _EXPECTED if not callable(getattr(base, name, None))]
    if base is None or absent_names:
        raise LightZeroMismatch(
            f"kv-lockstep does not know this LightZero: {_WORLD_MODEL}.WorldModel should have "
            f"{', '.join(absent_names)}; known are release 0.2.0 and the main branch of 2026-08"
        )
    _installation = Installation(open_validation, force)
    _hook_models(base, _installation)
    _hook_engine(_installation)
    with suppress(ImportError):
        for entry in training_entries():
            replace_everywhere(entry, _telling_of_failure(entry, _installation))
    return _installation


def _hook_models(base: Any, installation: Installation) -> None:
    """Attach to every world model once its outermost constructor is through; multi-task ones call their parents'."""

    def hook(cls: Any) -> None:
        if "__init__" in cls.__dict__ and not getattr(cls.__dict__["__init__"], _MARK, False):
            cls.__init__ = _attaching(cls.__init__, installation)
        for each in cls.__subclasses__():
            hook(each)

    def hook_new(cls: Any, /, **kwargs: Any) -> None:
        super(base, cls).__init_subclass__(**kwargs)
        hook(cls)

    hook(base)
    base.__init_subclass__ = classmethod(hook_new)
    base.__deepcopy__ = lambda self, memo: installation.copy(self, memo)


def _attaching(constructor: Callable[..., Any], installation: Installation) -> Callable[..., Any]:
    @wraps(constructor)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        state = self.__dict__
        state[_DEPTH] = state.get(_DEPTH, 0) + 1
        try:
            constructor(self, *args, **kwargs)
        finally:
            state[_DEPTH] -= 1
            outermost = not state[_DEPTH]
            if outermost:
                del state[_DEPTH]
        if outermost and installation.wants(self):
            installation.attach(self)

    setattr(construct, _MARK, True)
    return construct


def _hook_engine(installation: Installation) -> None:
    """Hear from DI-engine: the compiled config, policies once they are built, and what learners do."""
    config = import_module("ding.config")
    compile_config = config.compile_config

    @wraps(compile_config)
    def compiling(*args: Any, **kwargs: Any) -> Any:
        compiled = compile_config(*args, **kwargs)
        installation.compiled(compiled, given=args[0] if args else kwargs.get("cfg"))
        return compiled

    replace_everywhere(compile_config, compiling)
    policy = import_module("ding.policy.base_policy").Policy
    learner = import_module("ding.worker").BaseLearner
    after(policy, "__init__", lambda self: watch_policy(self, installation))
    after(learner, "__init__", lambda self: watch_learner(self, installation))
    train = learner.train

    @wraps(train)
    def training(self: Any, data: Any, envstep: int = -1, *args: Any, **kwargs: Any) -> Any:
        told_progress(self, envstep, installation)
        return train(self, data, envstep, *args, **kwargs)

    learner.train = training


def _telling_of_failure(entry: Callable[..., Any], installation: Installation) -> Callable[..., Any]:
    @wraps(entry)
    def training(*args: Any, **kwargs: Any) -> Any:
        try:
            return entry(*args, **kwargs)
        except BaseException as error:
            installation.failed(error)
            raise

    return training


def training_entries() -> list[Any]:
    """Return the functions that LightZero's scripts call.

    Raises:
        ImportError: If there are none.
    """
    return [
        entry
        for name, entry in vars(import_module("lzero.entry")).items()
        if name.startswith(("train_", "eval_")) and isfunction(entry)
    ]


def replace_everywhere(old: Any, new: Any) -> None:
    """Put another function in the place of one, also where it was imported by name: scripts hold theirs so."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old and name != "__wrapped__":
                setattr(module, name, new)


def after(cls: Any, name: str, then: Callable[[Any], None]) -> None:
    """Call something with each object of a class once a method of it is through."""
    method = getattr(cls, name)

    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        then(self)
        return result

    setattr(cls, name, wrapped)
