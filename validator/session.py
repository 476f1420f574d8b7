"""The composition root: one ``Lockstep`` joins shadows, their judgement and the run directory."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import Any

from reports.errors import RunUnreadable
from reports.reader import read_run
from reports.record.run import Run
from reports.record.totals import Totals
from reports.record.words import SCHEMA
from reports.writer import RunWriter
from shadow.hosts.transformers.generate import Asked
from shadow.recompute import Recomputer
from shadow.switch import HostPromises
from shadow.wrapper.forks import tell_in_children
from shadow.wrapper.unpicklable import Unpicklable
from validator.config import OracleConfig, ValidationConfig
from validator.endings import HostEnding, MainProgram, by_error, on_its_way
from validator.gate.judgement import Judgement, judge
from validator.judge.case import Pairing
from validator.observe.pair import Pair
from validator.oracle.oracle import Oracle
from validator.proof.drill.planting import ACTED, asked
from validator.proof.selftest import quick_selftest
from validator.provenance import provenance
from validator.ranks import in_group, join, place
from validator.recorder import Recorder
from validator.registry import Registry
from validator.shapes import find
from validator.shapes.shape import Shape
from validator.watchdog import Watchdog

_main_program = MainProgram()


class Lockstep(Unpicklable):
    """One validation run.

    Use it as a context manager, or call ``close``. If the process ends without either, the run is closed at exit, and
    is complete if the process ended well, as far as that can be known; see ``validator.endings``. If it is killed, what
    was recorded stays readable and counts as incomplete.

    Args:
        out: Directory of runs; this run gets a directory of its own in it.
        config: Settings; ``config.out`` is not used here.
        manifest_extra: What the host wants in the manifest: ``seed``, ``switches``, ``config``, ...

    Raises:
        OSError: If the run directory can't be made, or the launcher says no rank; better before the training than a
            week after.

    Example:
        >>> with Lockstep("runs/mine", ValidationConfig()) as lockstep:  # doctest: +SKIP
        ...     cache = lockstep.shadow(control=LegacyKVCache(cfg, 8), candidate=KVCacheManager(cfg, 8))
    """

    def __init__(
        self,
        out: str | Path,
        config: ValidationConfig | None = None,
        *,
        manifest_extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config or ValidationConfig()
        self.drill = asked()
        if self.drill is not None:
            out, self.config = self.drill.out or out, self.drill.config(self.config)
        self.rank, self.world_size = place()
        joined = join(Path(out), self.config.run_id, self.rank, self.world_size)
        self.run_id = joined.run_id
        manifest = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "created": time.time(),
            "rank": self.rank,
            "world_size": self.world_size,
            **joined.about,
            **provenance(),
            "host": "own",  # unless it says which; remedies are for what was watched
            "validation": asdict(self.config),
            "selftest": quick_selftest().summary() if self.config.selftest else None,
            **(manifest_extra or {}),
            **({} if self.drill is None else {"drill": {"fault": self.drill.name}}),
        }
        writer = RunWriter.create(
            joined.out,
            self.run_id,
            manifest,
            rank=self.rank,
            evidence_limit_bytes=int(self.config.evidence_mb * 1e6),
        )
        self.run_dir = writer.path
        self.recorder = Recorder(writer, self.config, self._copied)
        self._registry = Registry(self.recorder, self.config, self.run_id, self.rank)
        self.pairs = self._registry.pairs
        self._oracles: list[Oracle] = []
        self._planted = ExitStack()  # in hosts, by a drill
        self._lock = threading.RLock()
        self._closed = False
        self._failed: HostEnding | None = None
        self._handled = id(on_its_way())  # where the whole host runs in an ``except``, that error says nothing
        self._pid = os.getpid()
        self._watchdog = Watchdog(self.pairs, self.recorder, self.config.window_s, self.config.stall_warning_s)
        self._watchdog.start()
        _main_program.watch()
        tell_in_children(self)
        atexit.register(self._at_exit)
        if multiprocessing.parent_process() is not None:  # a forked worker ends by os._exit, without exit handlers
            Finalize(None, self.close, kwargs={"ended": "without close"}, exitpriority=0)

    # -- what users and hosts call ------------------------------------------------------------------------------------

    def shadow(
        self,
        *,
        control: Any,
        candidate: Any,
        primary: str = "control",
        name: str = "",
        copies: str = "",
        promises: HostPromises | None = None,
        shape: str | Shape = "auto",
        rtol: float | None = None,
        atol: float | None = None,
    ) -> Any:
        """Put both caches behind one.

        Args:
            control: Trusted cache.
            candidate: New cache; any object with the interface of ``shadow.CacheStore``.
            primary: ``control`` (shadow stage) or ``candidate`` (canary stage): whose answers the host receives.
            name: What the report calls this pair; ``cache``, ``cache-2``, ... where empty.
            copies: What it calls deep copies of it; ``<name>-copy`` where empty.
            promises: What the host promises about its own clears; None for everything.
            shape: Which shape of cache both are: ``pools``, ``mapping`` or ``append``; ``auto`` to find out.
            rtol: Relative tolerance of this pair, for a store that is lossy by design; that of the session if left out.
            atol: Absolute tolerance; given together with ``rtol`` or not at all.

        Returns:
            The cache to use in their place, of the same shape.

        Raises:
            ValueError: If both are one object, ``primary`` is neither, one holds entries that can't be listed, or
                their shape is none that is known, or a tolerance is impossible.
        """
        exact = rtol is None and atol is None
        config = self.config if exact else replace(self.config, rtol=rtol, atol=atol)
        with self._lock:
            shaped = find(control, shape)
            if self.drill is not None:
                candidate = self.drill.planted(candidate, shaped.name, self.event)
            pairing = Pairing(name or "cache", control, candidate, primary, config, promises)
            pair = self._registry.register(pairing, shaped, copies)
            cache = shaped.door(pairing, pair, self.config.seed)
            if os.getpid() != self._pid:
                shaped.let_be(cache)
            return cache

    def shadow_generate(
        self,
        *,
        candidate: Callable[[Asked], Any],
        primary: str = "control",
        name: str = "generate",
        rtol: float | None = None,
        atol: float | None = None,
        oracle: OracleConfig | None = None,
    ) -> AbstractContextManager[None]:
        """Shadow every cache that ``generate`` of transformers makes or is given, without an edit of the program.

        Args:
            candidate: Told of a cache when it is ready (``asked.control, .model, .config, .batch_size, .max_length,
                .role, .windows``); returns the candidate to it, or None to leave that one alone.
            primary: Whose answers the model receives.
            name: What the report calls the pairs.
            rtol: Tolerance of these pairs, as for ``shadow``.
            atol: The same.
            oracle: What of it is recomputed without a cache; None for what the settings say.

        Returns:
            A context manager; caches that are met inside stay watched for as long as the host keeps them.

        Raises:
            shadow.hosts.transformers.generate.Unsupported: On entering, if transformers is not there, or too old.
        """
        from validator.shapes.append import watched_generation

        settings = oracle or self.config.oracle
        recompute = None if settings is None else partial(self._recompute, settings)
        return watched_generation(partial(self.shadow, rtol=rtol, atol=atol), candidate, primary, name, recompute)

    def recompute(self, cache: Any, recomputer: Recomputer) -> None:
        """Follow what a host stores, and recompute it without a cache, where the settings have a table ``oracle``.

        Args:
            cache: What ``shadow`` returned.
            recomputer: Knows how this host computes; see ``validator.oracle``.

        Raises:
            shadow.recompute.UnknownModel: If the host is not what the recomputer knows.
        """
        if self.config.oracle is not None:
            self._recompute(self.config.oracle, cache, recomputer)

    def weights_updated(self, cache: Any | None = None) -> None:
        """Tell that the weights moved: entries stored before are of an older version. None means of every shadow."""
        for pair in self._registry.of(cache):
            self._contained(pair, pair.weights_updated)

    def episode_ended(self, env_id: int, cache: Any | None = None) -> None:
        """Tell that an env's episode is over and its cleanup is done."""
        for pair in self._registry.of(cache):
            self._contained(pair, partial(pair.episode_ended, env_id))

    def search_started(self, cache: Any | None = None) -> None:
        """Tell that a new tree search begins and its recurrent pool has been cleared."""
        for pair in self._registry.of(cache):
            self._contained(pair, pair.search_started)

    def progress(self, *, train_iter: int | None = None, env_step: int | None = None) -> None:
        """Tell where the training stands; stamped on what is recorded from here on."""
        if train_iter is not None:
            self.recorder.train_iter = train_iter
        if env_step is not None:
            self.recorder.env_step = env_step

    def event(self, name: str, detail: str = "") -> None:
        """Write that something happened in the life of the host."""
        self.recorder.event(name, detail)

    def live(self, tb_logger: Any) -> None:
        """Show what is counted from here on in the host's own TensorBoard writer, under ``KVLockstep/``."""
        self.recorder.live(tb_logger)

    def totals(self) -> Totals:
        """Return what was counted of each pair, up to ``window_s`` ago."""
        return self.recorder.totals()

    @property
    def verdict(self) -> Judgement:
        """The default policy's judgement on what is on disk; before ``close`` the run counts as incomplete."""
        return judge([self.on_disk()])

    def on_disk(self) -> Run:
        """Read what is on disk of this run; what could not get there is said in ``lost``."""
        try:
            run = read_run(self.run_dir)
        except RunUnreadable as problem:
            run = Run(self.run_dir, "unreadable", problems=[str(problem)])
        if losses := self.recorder.losses:
            run.lost = run.lost or losses
            run.state = "crashed" if run.state == "in progress" else run.state
        return run

    def host_failed(self, error: BaseException) -> None:
        """Tell that the host's training ended by an error, whatever the host does with it: the run is not complete."""
        self._failed = self._failed or by_error(error)

    def close(self, state: str = "", ended: str = "") -> None:
        """Audit everything once more, write the last windows and the summary. A second call changes nothing.

        Args:
            state: ``complete``, or why the host ended before its time, such as ``interrupted``. Where it is left out it
                is complete, unless an error is on its way, as in a ``finally``, or the host was said to have failed.
            ended: How the host ended, where that is known better: what follows "the host ended".
        """
        with self._lock:
            if self._closed or os.getpid() != self._pid:
                return
            self._closed = True
        if not state:
            error = on_its_way()
            ending = by_error(error if id(error) != self._handled else None)
            state, ended = ending if ending.state != "complete" else self._failed or ("complete", ended)
        try:
            self._watchdog.close()
            for oracle in self._oracles:
                oracle.close()
            self._planted.close()
            # Not under the session's lock: a pair that is busy may be waiting for that.
            for pair in self.pairs:
                self._contained(pair, pair.audit)
                self._contained(pair, partial(self.recorder.window, pair, force=True))
                self._contained(pair, pair.close)
        except BaseException as cut:  # an interrupt; what is known by now is written all the same
            state, ended = by_error(cut)
            raise
        finally:
            if group := in_group(self.rank, self.world_size):
                self.recorder.event(group, f"opened as rank {self.rank} of {self.world_size}")
            if self.drill is not None and self.drill.fault is not None:
                self.event(ACTED, self.drill.acts())
            self.recorder.close(self.run_id, state, ended)
            atexit.unregister(self._at_exit)
            _main_program.let_go()

    def in_forked_child(self) -> None:
        """Watch nothing in a forked child, and have locks that nobody holds."""
        self._lock = threading.RLock()
        for oracle in self._oracles:
            oracle.in_forked_child()
        self.pairs.clear()
        self.recorder.in_forked_child()

    def __enter__(self) -> Lockstep:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = by_error(error)
        self.close(*(ending if ending.state != "complete" else self._failed or ending))

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _recompute(self, settings: OracleConfig, cache: Any, recomputer: Recomputer) -> None:
        with self._lock:
            if self.drill is not None:
                self._planted.enter_context(self.drill.in_host(recomputer.host, self.event))
            for ended in [each for each in self._oracles if each.ended]:
                self._oracles.remove(ended)
                ended.close()
            for pair in self._registry.of(cache):
                self._oracles.append(Oracle(pair, recomputer, settings, self.config.seed))

    def _copied(self, pair: Pair, control: Any, candidate: Any) -> Pair:
        with self._lock:
            return self._registry.copied(pair, control, candidate)

    def _contained(self, pair: Pair, call: Any) -> None:
        with pair.lock:
            began = time.perf_counter_ns()
            try:
                call()
            except Exception as error:
                pair.harness_failed("follow the host", error)
            pair.harness_ns += time.perf_counter_ns() - began

    def _at_exit(self) -> None:
        if not self._closed and os.getpid() == self._pid:
            ending = _main_program.ending()
            if ending.state == "complete" and self._failed is not None:
                ending = self._failed
            self.close(*ending)


def open_from_settings(settings: Any, about: Mapping[str, Any] | None = None) -> Lockstep:
    """Open the session of a host that only set ``cache_validation_mode``; found by entry point, see ``shadow.switch``.

    Args:
        settings: The ``cache_validation`` table of its world model config.
        about: What the host wants in the manifest.

    Returns:
        A session that is closed when the process ends, or by the host.

    Raises:
        SettingsError: If a setting is unknown or impossible.
    """
    config = ValidationConfig.from_mapping(dict(settings))
    return Lockstep(config.out, config, manifest_extra=about)
