"""One installation: which world models get a shadow, in which session, and under which name."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from shadow.hosts.lightzero.attachment import ATTRIBUTE, InlineAttachment
from shadow.hosts.lightzero.inline import InlineStore
from shadow.hosts.lightzero.managed import ManagedAttachment
from shadow.hosts.lightzero.oracle import ATTRIBUTE as ORACLE
from shadow.hosts.lightzero.oracle import LineageOracle
from shadow.hosts.lightzero.package import PackageStore
from shadow.hosts.lightzero.sides import OWN_INLINE, OWN_MANAGER, build, choose
from shadow.interface import CachePolicy, read_field
from shadow.settings import SettingsError
from shadow.switch import HostPromises, Validation, installed_validation

logger = logging.getLogger(__name__)

# Collection and evaluation share one model, and with it one store; a deep copy of it is the target network.
MODEL, COPY = "collect+eval", "target"
# 0.2.0 empties nothing at an episode's end: it clears every 200 or 2,000 env steps and after each training phase, and
# numbers its init pools by batch row, not by env. An entry that outlives an episode is documented behaviour there.
PROMISES = {
    "legacy_dict": HostPromises(episode_end_clears=False),
    "legacy_ring": HostPromises(),
}

OpenValidation = Callable[[Mapping[str, Any], Mapping[str, Any]], Validation]


class Installation:
    """What ``install`` put in place.

    Args:
        open_validation: Opens the session, given its settings and what ran; None for the installed validator.
        force: Whether every world model is validated, whatever its config says.

    Attributes:
        validation: The session, None until the first validated world model was built.
        exp_name: The compiled experiment name, empty before a config was compiled.
        given_name: The name before that, which is the same on all ranks: DI-engine puts the time behind a name that
            exists, and on some ranks only.
        about: What is known of the experiment, for the manifest.
    """

    def __init__(self, open_validation: OpenValidation | None, force: bool) -> None:
        self.validation: Validation | None = None
        self.exp_name = self.given_name = ""
        self.about: dict[str, Any] = {"host": "lightzero"}
        self.force = force
        self._open = open_validation or installed_validation

    def reopen(self, open_validation: OpenValidation | None, force: bool) -> None:
        """Start anew with other arguments: the next validated model opens a session of its own."""
        self.validation = None
        self.force = force
        self._open = open_validation or installed_validation

    def compiled(self, config: Any, given: Any = None) -> None:
        """Learn the experiment's name and sizes from its compiled config, and its name before from the one given."""
        self.exp_name = str(read_field(config, "exp_name", "") or "")
        self.given_name = str(read_field(given, "exp_name", "") or self.exp_name)
        self.about |= {"exp_name": self.exp_name, "seed": read_field(config, "seed", None), "config": config}

    def failed(self, error: BaseException) -> None:
        """Learn that a training entry ended by an error."""
        if self.validation is not None:
            self.validation.host_failed(error)

    def wants(self, world_model: Any) -> bool:
        """Tell whether a world model is to be validated."""
        return self.force or bool(read_field(world_model.config, "cache_validation_mode", False))

    def attach(self, world_model: Any) -> None:
        """Put a shadow into a world model that was just built.

        Raises:
            LightZeroMismatch: If it does not look as expected.
            SettingsError: If its settings are impossible.
        """
        try:
            self._attach(world_model, MODEL).wake()  # the run directory must be writable before the training starts
        except SettingsError:
            raise
        except ValueError as problem:
            raise SettingsError(f"cache_validation: {problem}") from problem

    def copy(self, world_model: Any, memo: dict[int, Any]) -> Any:
        """Deep-copy a world model; the copy gets a store, a shadow and a recorder of its own when it is used."""
        attachment = world_model.__dict__.get(ATTRIBUTE)
        if attachment is None:
            return _plain_copy(world_model, memo)
        oracle = world_model.__dict__.get(ORACLE)
        if oracle is not None:
            oracle.detach()
        attachment.take_out()
        try:
            clone = _plain_copy(world_model, memo)
        finally:
            attachment.put_in()
            if oracle is not None:
                oracle.put_in()
        if isinstance(attachment, InlineAttachment):
            attachment.copied_to(clone, lambda store: self._shadow_inline(store, COPY))
        else:
            attachment.copied_to(clone, lambda model: self._attach(model, COPY))
        return clone

    def _attach(self, world_model: Any, name: str) -> InlineAttachment | ManagedAttachment:
        if read_field(world_model.config, "use_new_cache_manager", False) and hasattr(world_model, "kv_cache_manager"):
            return self._attach_manager(world_model, name)
        choice = choose(world_model.config, OWN_INLINE)
        reads_other = (choice.control == OWN_INLINE) is (choice.primary == "candidate")
        return InlineAttachment(
            InlineStore(world_model),
            lambda store: self._shadow_inline(store, name),
            reads_other,
            self._searched,
            self._faulted,
        )

    def _attach_manager(self, world_model: Any, name: str) -> ManagedAttachment:
        choice = choose(world_model.config, OWN_MANAGER)
        store = PackageStore(world_model.kv_cache_manager)
        policy = store.policy()
        # Named twice, the package's manager runs against a second one of its kind.
        own = "candidate" if choice.candidate == OWN_MANAGER else "control"
        control, candidate = (
            store
            if which == OWN_MANAGER and side == own
            else build(which, world_model, policy.capacities, store.env_num)
            for side, which in (("control", choice.control), ("candidate", choice.candidate))
        )
        serving = candidate if choice.primary == "candidate" else control
        return ManagedAttachment(
            world_model,
            store,
            serving,
            lambda: self._shadow(control, candidate, choice.primary, name, policy, world_model),
            self._searched,
        )

    def _shadow_inline(self, store: InlineStore, name: str) -> Any:
        model = store.world_model
        choice = choose(model.config, OWN_INLINE)
        own_is_control = choice.control == OWN_INLINE
        policy = store.policy()
        other = build(choice.candidate if own_is_control else choice.control, model, policy.capacities, store.env_num)
        control, candidate = (store, other) if own_is_control else (other, store)
        return self._shadow(control, candidate, choice.primary, name, policy, model)

    def _shadow(self, control: Any, candidate: Any, primary: str, name: str, policy: CachePolicy, model: Any) -> Any:
        session = self.validation or self._open_for(model.config)
        promises = PROMISES.get(policy.kind, HostPromises())
        logger.info(
            "Validating KV caches of %s (%s) in lockstep: control %s, candidate %s, the model receives the %s's",
            type(model).__name__, name, type(control).__name__, type(candidate).__name__, primary,
        )  # fmt: skip
        shadow = session.shadow(
            control=control, candidate=candidate, primary=primary, name=name, copies=COPY, promises=promises
        )
        session.recompute(shadow, LineageOracle(model))
        return shadow

    def _open_for(self, config: Any) -> Validation:
        settings = {**(read_field(config, "cache_validation", None) or {})}
        if not settings.get("out"):
            # Ranks write beside it: what one of them makes in there would have DI-engine rename another one's.
            shared = f"{self.given_name or '.'}-validation" if _is_a_rank() else ""
            settings["out"] = shared or str(Path(self.exp_name or ".") / "validation")
        self.about["switches"] = {
            name: bool(read_field(config, name, False)) for name in ("use_new_cache_manager", "cache_validation_mode")
        }
        self.about["num_layers"] = read_field(config, "num_layers", None)
        self.validation = self._open(settings, self.about)
        return self.validation

    def _searched(self, shadow: Any) -> None:
        if self.validation is not None:
            self.validation.search_started(cache=shadow)

    def _faulted(self, shadow: Any, fault: Exception) -> None:
        shadow.observer.harness_failed("attachment", fault)


def _is_a_rank() -> bool:
    group = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return group or os.environ.get("WORLD_SIZE", "1") != "1"


def _plain_copy(module: Any, memo: dict[int, Any]) -> Any:
    cls: Any = type(module)
    clone = cls.__new__(cls)
    memo[id(module)] = clone
    clone.__setstate__(copy.deepcopy(module.__dict__, memo))
    return clone
