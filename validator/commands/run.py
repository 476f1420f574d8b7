"""``kv-lockstep run``: a script of LightZero, or one that generates, in lockstep; the exit code is its verdict."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from reports.errors import RunDirectoryError
from reports.record.words import EXIT_CODE, Verdict
from shadow.hosts.lightzero import LightZeroMismatch, LightZeroMissing, install
from shadow.hosts.lightzero.overrides import override
from shadow.hosts.transformers.generate import Unsupported, maker
from shadow.settings import SettingsError
from validator.commands.at_close import judge_at_close
from validator.commands.byte_work import tell_if_not_compiled
from validator.commands.show import console
from validator.config import ValidationConfig
from validator.endings import HostEnding, by_error
from validator.errors import ConfigError
from validator.script import Ending, run_script
from validator.session import Lockstep
from validator.shapes.append import watched_generation
from validator.toml import parse_setting

_REFUSALS = (LightZeroMismatch, LightZeroMissing, SettingsError, RunDirectoryError, Unsupported)
_OWN = "cache_validation."
_Opened = Callable[[Mapping[str, Any], Mapping[str, Any]], Lockstep]


def main(arguments: Namespace) -> int:
    """Run the script, and judge what was recorded.

    Args:
        arguments: ``script, args, out, generate, primary, record, settings``; see ``arguments.py``.

    Returns:
        The script's own exit code if it failed, else the verdict's.

    Raises:
        LockstepError: If nothing could be run: no script, no LightZero, one of another shape, a wrong setting.
    """
    settings = dict(map(parse_setting, arguments.settings))
    if arguments.record:
        settings[f"{_OWN}record"] = arguments.record
    sessions: list[Lockstep] = []
    ended = HostEnding("crashed")
    command = [str(arguments.script), *arguments.args]

    def opened(given: Mapping[str, Any], about: Mapping[str, Any]) -> Lockstep:
        config = ValidationConfig.from_mapping(dict(given))
        out = arguments.out or config.out
        told = {**about, "script": command, "overrides": {key: str(value) for key, value in settings.items()}}
        sessions.append(Lockstep(out, replace(config, out=str(out)), manifest_extra=told))
        return sessions[0]

    out, err = console(), console(stderr=True)
    try:
        if arguments.script.name != "-m" and not arguments.script.is_file():
            run_script(arguments.script, ())
        tell_if_not_compiled(err)
        with _every_generate(arguments, settings, opened) if arguments.generate else nullcontext():
            if not arguments.generate:
                _lightzero(arguments, settings, opened, err)
            ending = run_script(arguments.script, arguments.args, passed_on=_REFUSALS)
        ended = by_error(ending.error, uncaught=True)
    except (LightZeroMismatch, LightZeroMissing, SettingsError, Unsupported) as refused:
        raise ConfigError(str(refused)) from None
    finally:
        for session in sessions:
            session.close(*ended)
    never = "generated nothing with a cache" if arguments.generate else "built no UniZero world model"
    return _judged(sessions, ending, " ".join(command[: 1 + (command[0] == "-m")]), never, out, err)


def _lightzero(arguments: Namespace, settings: dict[str, Any], opened: _Opened, err: Any) -> None:
    """Shadow the caches of every world model that LightZero builds from here on."""
    if arguments.primary:
        settings["world_model_cfg.use_new_cache_manager"] = arguments.primary == "new"
    install(opened, force=True)
    override(settings, lambda text: err.print(text, soft_wrap=True))


@contextmanager
def _every_generate(arguments: Namespace, settings: Mapping[str, Any], opened: _Opened) -> Iterator[None]:
    """Shadow every cache that ``generate`` of transformers makes or is given, in a session that the first opens."""
    if strange := [key for key in settings if not key.startswith(_OWN)]:
        raise ConfigError(f"--set {strange[0]}: with --generate only settings of {_OWN}* can be changed")
    given = {key.removeprefix(_OWN): value for key, value in settings.items()}
    ValidationConfig.from_mapping(given)
    primary = "candidate" if arguments.primary == "new" else "control"
    session = cache(lambda: opened(given, {"host": "transformers", "candidate": arguments.generate}))
    try:
        make = maker(arguments.generate)
    except Unsupported as problem:
        raise ConfigError(f"--generate {arguments.generate}: {problem}") from None
    with watched_generation(lambda **more: session().shadow(**more), make, primary, "generate"):
        yield


def _judged(sessions: list[Lockstep], ending: Ending, script: str, never: str, out: Any, err: Any) -> int:
    code = EXIT_CODE[Verdict.INCONCLUSIVE]
    if sessions:
        judged = judge_at_close(sessions[0], out, err)
        if judged is None:
            return ending.code
        code = judged
    else:
        out.print(f"INCONCLUSIVE: {script} {never}, so nothing was compared", soft_wrap=True)
    if ending.code:
        what = "" if ending.error is None else f" ({type(ending.error).__name__}: {str(ending.error)[:200]})"
        text = f"{script} itself ended with exit code {ending.code}{what}; that code is passed on"
        err.print(text, soft_wrap=True)
    return ending.code or code
