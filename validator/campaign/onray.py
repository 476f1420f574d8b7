"""Jobs on a Ray cluster, which only says where each may run: a job is a process of its own there as here."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import socket
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from reports.record.campaign import ATTEMPT_FILE, Fate
from validator.campaign.drive import signals_kept
from validator.campaign.process import Child, End
from validator.errors import ConfigError

INSTALL = "pip install 'kv-lockstep[ray]'"
TRIES = 3  # at a Ray of this machine
_ANSWER_S = 15.0
_CAPACITY_S = 5.0
_STORE_BYTES = 128 << 20  # of Ray's object store on this machine: run directories go through files, mostly


class Given(NamedTuple):
    """What a task of Ray is given.

    Attributes:
        words: What to type after ``kv-lockstep``, with ``--out`` first.
        directory: The attempt's directory, as the driver names it.
        record: The attempt's record, by which a machine knows that it sees the same directory.
        cwd: Where the driver stands; files that a job names are looked for there, if it is there.
        threads: Cores for the job.
        seed: Its seed; None for none.
        timeout_s: Seconds that it may take; 0 for no limit.
    """

    words: tuple[str, ...]
    directory: str
    record: bytes
    cwd: str
    threads: int
    seed: int | None
    timeout_s: float


class Brought(NamedTuple):
    """What a task of Ray brings back.

    Attributes:
        end: How the job ended, field by field.
        archive: What it recorded, as a tar file; empty where the directory is shared.
        digest: Of the archive.
    """

    end: tuple[str, int | None, str, str, float]
    archive: bytes
    digest: str


def run_attempt(given: Given) -> Brought:
    """Run one attempt on the machine that Ray chose, and bring back what it left.

    Args:
        given: The attempt.
    """
    with suppress(OSError):
        os.chdir(given.cwd)
    here = Path(given.directory)
    try:
        shared = (here / ATTEMPT_FILE).read_bytes() == given.record
    except OSError:
        shared = False
    with tempfile.TemporaryDirectory(prefix="kv-lockstep-") as temporary:
        out = here if shared else Path(temporary)
        words = [given.words[0], "--out", str(out), *given.words[3:]]
        end = Child(words, out, given.threads, given.seed, given.timeout_s).wait()
        archive = b"" if shared else packed(out)
    told = (end.fate.value, end.code, end.reason, socket.gethostname(), end.seconds)
    return Brought(told, archive, _digest(archive))


def packed(directory: Path) -> bytes:
    """Return everything in a directory as one compressed tar file."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        archive.add(directory, arcname=".")
    return written.getvalue()


def unpacked(archive: bytes, digest: str, directory: Path) -> None:
    """Put what came from another machine into its directory; nothing in it leads elsewhere.

    Args:
        archive: The tar file.
        digest: What it was when it was sent.
        directory: Where to.

    Raises:
        ValueError: If it is not what was sent, or holds something else than files and directories of its own.
    """
    if _digest(archive) != digest:
        raise ValueError("what it recorded arrived damaged")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                raise ValueError(f"what it recorded holds {member.name!r:.80}, which is no file of its own")
            path = directory / name
            if member.isdir():
                path.mkdir(exist_ok=True)
            elif (content := members.extractfile(member)) is not None and name.name != ATTEMPT_FILE:
                with path.open("xb") as file:
                    file.write(content.read())


class OnRay:
    """Runs attempts as tasks of Ray.

    Args:
        address: ``host:port`` of a cluster's head; empty for a Ray of this machine alone, which ends with this.
        cpus: Cores for each job.
        gpus: GPUs for each job.
        timeout_s: Seconds for each; 0 for no limit.

    Raises:
        ConfigError: If there is no Ray, no answer, or nothing large enough.
    """

    def __init__(self, address: str, cpus: float, gpus: float, timeout_s: float) -> None:
        if cpus <= 0 or gpus < 0:
            raise ConfigError(f"--cpus {cpus:g}, --gpus {gpus:g}: expected more than 0 cores, and no fewer than 0 GPUs")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if address and (Path.home() / ".ray" / "auth_token").is_file():  # a head that made one wants to see it
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # heard when Ray is imported
        try:
            import ray
        except ImportError:
            raise ConfigError(f"--on ray needs Ray, which is not installed; run: {INSTALL}") from None
        self._ray = ray
        self._wanted = {"CPU": cpus, "GPU": gpus}
        self._timeout_s = timeout_s
        self._running: dict[Any, tuple[str, Path]] = {}
        self._looked_at = -math.inf
        self._capacity = 0
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address:
            _answers(address)
            options["address"] = address
        else:
            # Else it would join whatever Ray it finds here, or finds the traces of.
            options |= {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        with signals_kept():  # Ray takes SIGTERM
            self._begin(options, TRIES if not address else 1)
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_attempt)
        if not self._at_once():
            found = ", ".join(f"{ray.cluster_resources().get(name, 0):g} {name}" for name in self._wanted)
            wanted = ", ".join(f"{n:g} {name}" for name, n in self._wanted.items())
            self.close()
            raise ConfigError(f"no machine of the cluster can take a job of {wanted}; all together have {found}")

    def _begin(self, options: dict[str, Any], tries: int) -> None:
        """Connect, or start a Ray here, which gives up by itself after 30 s on a machine that is busy."""
        try:
            self._ray.init(**options)
        except Exception as problem:
            self._ray.shutdown()
            if tries > 1:
                return self._begin(options, tries - 1)
            given = options["address"] != "local"
            where = f"Ray at {options['address']}" if given else "a Ray of this machine"
            hint = "; is the head's ~/.ray/auth_token here, and its Ray of this version?" if given else ""
            raise ConfigError(f"{where} can't be used: {_first_line(problem)}{hint}") from None

    def __str__(self) -> str:
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        return f"{self._at_once()} at a time on Ray, {nodes} node(s), {self._wanted['CPU']:g} core(s) each"

    def is_free(self) -> bool:
        """Say whether one more may start; what more the cluster is given is noticed within seconds."""
        return len(self._running) < max(1, self._at_once())

    def start(self, name: str, words: Sequence[str], directory: Path, seed: int | None) -> None:
        """Hand an attempt to Ray.

        Args:
            name: Its name.
            words: What to type after ``kv-lockstep``.
            directory: Where its log goes.
            seed: Its seed; None for none.
        """
        record, threads = (directory / ATTEMPT_FILE).read_bytes(), max(1, int(self._wanted["CPU"]))
        path = str(directory.resolve())
        given = Given(tuple(words), path, record, str(Path.cwd()), threads, seed, self._timeout_s)
        self._running[self._task.remote(given)] = name, directory

    def ended(self, wait_s: float) -> list[tuple[str, End]]:
        """Return what ended, after waiting for at most so many seconds until something does."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=wait_s)
        return [
            (name, self._brought(task, directory)) for task in done for name, directory in [self._running.pop(task)]
        ]

    def stop(self) -> None:
        """End whatever runs; a job ends with the worker that waits for it."""
        for task in self._running:
            with suppress(Exception):
                self._ray.cancel(task, force=True)
        self._running.clear()

    def close(self) -> None:
        """Leave the cluster."""
        with signals_kept():
            self._ray.shutdown()

    def _brought(self, task: Any, directory: Path) -> End:
        errors = self._ray.exceptions
        try:
            brought = self._ray.get(task)
            fate, *rest = brought.end
            if brought.archive:
                unpacked(brought.archive, brought.digest, directory)
            return End(Fate(fate), *rest)
        except errors.RayTaskError as problem:
            return End(Fate.FAILED, None, f"its machine could not start it: {problem.cause!r:.300}")
        except errors.RayError as problem:  # a worker or a node died, or the way to it
            return End(Fate.LOST, None, f"{type(problem).__name__}: {_first_line(problem)}")
        except (ValueError, OSError, tarfile.TarError) as problem:
            return End(Fate.LOST, None, f"{problem!s:.300}")

    def _at_once(self) -> int:
        """Say how many jobs fit into the cluster at once, machine by machine."""
        if time.monotonic() - self._looked_at > _CAPACITY_S:
            self._looked_at = time.monotonic()
            wanted = {name: n for name, n in self._wanted.items() if n}
            machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            fitting = (min(machine.get(name, 0) / n for name, n in wanted.items()) for machine in machines)
            self._capacity = sum(int(each + 1e-6) for each in fitting)
        return self._capacity


def _answers(address: str) -> None:
    """Refuse an address at which nothing listens: Ray itself would wait for a minute and more."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536) or "/" in address:
        raise ConfigError(f"--at {address!r:.80}: expected host:port of the cluster's head, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as problem:
        more = f"within {_ANSWER_S:g} s" if isinstance(problem, TimeoutError) else f"({problem.strerror or problem})"
        raise ConfigError(f"--at {address}: no answer {more}; on its head run: ray start --head") from None


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _first_line(problem: BaseException) -> str:
    return next(iter(str(problem).strip().splitlines()), "")[:300]
