"""What would supply missing evidence, for whoever made the run: each kind of host is told what it can do."""

from __future__ import annotations

from typing import Final, Literal

from reports.record.run import Run

Host = Literal["train", "run", "script", "own", "test"]
HOSTS: Final = ("train", "run", "script", "own", "test")

_LONGER: Final[dict[Host, str]] = {
    "train": "train longer, as with --set total_env_steps=20000",
    "run": "train longer, as with --set max_env_step=20000",
    "script": "train longer: a greater max_env_step in the script",
    "own": "let the host run longer",
}
_PER_HOST: Final[dict[str, dict[Host, str]]] = {
    "again": {
        "train": "record it again and let it end in order",
        "run": "record it again and let it end in order",
        "script": "record it again and let it end in order",
        "own": "record it again and let it end in order: with Lockstep(...) as lockstep",
        "test": "let the test end in order",
    },
    "one more": {
        "train": "record one more: kv-lockstep train --config configs/validate.toml --primary {primary} --seed {seed}",
        "run": "record one more: kv-lockstep run --primary {primary} -- SCRIPT.py, with seed {seed} in the script",
        "script": "record one more: run the script with use_new_cache_manager = {is_new} and seed {seed}",
        "own": "record one more: run the host with primary={side!r}, and seed {seed} in manifest_extra",
    },
    "longer": {**_LONGER, "test": "let the test do that"},
    "pools fill": {
        "train": "pools must fill: add --set world_model_cfg.max_cache_size=8 to kv-lockstep train",
        "run": "pools must fill: train longer, or with --set policy.num_simulations=8",
        "script": "pools must fill: train longer, or with fewer num_simulations in the script",
        "own": "pools must fill: store more, or give both caches less room",
    },
    "keys repeat": {
        "train": "keys must repeat: add --set world_model_cfg.key_buckets=8 to kv-lockstep train",
        "run": "keys must repeat, so train longer, as with --set max_env_step=20000",
        "script": "keys must repeat, so train longer: a greater max_env_step in the script",
        "own": "keys must repeat: set some that are alive again",
    },
    "both hit": {
        "train": "values are only compared where both sides hit; raise num_simulations, or let keys repeat",
        "run": "values are only compared where both sides hit; raise it with --set policy.num_simulations=50",
        "script": "values are only compared where both sides hit; raise num_simulations in the script",
        "own": "values are only compared where both sides hit: look up what was stored",
    },
    "look up": {
        "train": f"{_LONGER['train']}, and check that cache_validation_mode is on",
        "run": f"{_LONGER['run']}, and check that the script uses its caches",
        "script": f"{_LONGER['script']}, and check that install() stands before the training",
        "own": f"{_LONGER['own']}, and check that the host's cache is the one Lockstep.shadow returned",
        "test": "look up what was stored, through the cache that kv_lockstep(control=..., candidate=...) returned",
    },
    "weight updates": {**_LONGER, "own": "the host calls lockstep.weights_updated() after each update"},
    "episodes": {**_LONGER, "own": "the host calls lockstep.episode_ended(env_id)"},
    "searches": {**_LONGER, "own": "the host calls lockstep.search_started()"},
    "envs": {
        "train": f"{_LONGER['train']}, or lower env_num",
        "run": f"{_LONGER['run']}, or lower env_num",
        "script": f"{_LONGER['script']}, or a lower env_num",
        "own": f"{_LONGER['own']}, or give both caches no more envs than there are",
    },
    "env_num": {
        **_LONGER,
        "own": "tell how many there are: an attribute env_num of the cache, or manifest_extra={{'env_num': N}}",
    },
    "layers": {**_LONGER, "own": "tell how many there are: manifest_extra={{'num_layers': N}}"},
    "digests": {
        "train": "record again with cache_validation.digest_share = 1.0",
        "run": "record again with --set cache_validation.digest_share=1.0",
        "script": "record again with cache_validation.digest_share = 1.0",
        "own": "record again with ValidationConfig(digest_share=1.0)",
    },
    "budget": {
        "train": "lower audit_share, or set overhead_budget, in cache_validation",
        "run": "lower audit_share, or set overhead_budget, in cache_validation",
        "script": "lower audit_share, or set overhead_budget, in cache_validation",
        "own": "lower audit_share, or set overhead_budget, in ValidationConfig",
    },
    "oracle": {
        "train": "record again with --oracle, in which case it says what it could not judge, and train longer",
        "run": "record again with --set cache_validation.oracle.envs=1, and train longer",
        "script": "record again with a table oracle in cache_validation, and train longer",
        "own": "record again with ValidationConfig(oracle=OracleConfig()), in a host that can recompute",
    },
    "trained alone": {
        "train": "kv-lockstep ab --config configs/validate.toml --out beside the runs",
        "run": "kv-lockstep ab --out beside the runs -- SCRIPT.py",
        "script": "kv-lockstep ab --out beside the runs -- SCRIPT.py",
        "own": "train the same caches in the embedded host, beside the runs: kv-lockstep ab --candidate module:Class",
    },
}
WHAT: Final = tuple(_PER_HOST)


def host_of(run: Run | None) -> Host:
    """Say how a run was made.

    Returns:
        ``train`` (the embedded agent), ``run`` (a LightZero script under ``kv-lockstep run``), ``script`` (one that
        installs by itself), ``test`` (a test under pytest) or ``own`` (``Lockstep`` in another host of the user's).
        Before version 0.2 nobody said.
    """
    manifest = {} if run is None else run.manifest
    host = manifest.get("host", "unizero")
    if host == "lightzero":
        return "run" if manifest.get("script") else "script"
    if host == "pytest":
        return "test"
    return "train" if host == "unizero" else "own"


def remedy(what: str, run: Run | None, **facts: object) -> str:
    """Say what would supply what is missing in a run.

    Args:
        what: One of ``WHAT``.
        run: A run that lacks it, or any of those that are judged.
        facts: What the sentence names.
    """
    said, host = _PER_HOST[what], host_of(run)
    return said.get(host, said["own"]).format(**facts)  # a test is a host of the user's own, where nothing else is said
