"""``kv-lockstep run``: an unmodified LightZero script under validation; the exit code is the verdict's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reports.errors import RunDirectoryError
from reports.record.words import EXIT_CODE, Verdict
from shadow.hosts.lightzero import LightZeroMismatch, LightZeroMissing, install
from shadow.hosts.lightzero.overrides import override
from shadow.settings import SettingsError
from validator.commands.at_close import judge_at_close
from validator.commands.byte_work import tell_if_not_compiled
from validator.commands.show import console
from validator.config import ValidationConfig
from validator.endings import HostEnding, by_error
from validator.errors import ConfigError
from validator.script import Ending, run_script
from validator.session import Lockstep
from validator.toml import parse_setting

_REFUSALS = (LightZeroMismatch, LightZeroMissing, SettingsError, RunDirectoryError)


def main(arguments: Namespace) -> int:
    """Run the script, and judge what was recorded.

    Args:
        arguments: ``script, args, out, primary, record, no_shrink, settings``; see ``arguments.py``.

    Returns:
        The script's own exit code if it failed, else the verdict's.

    Raises:
        LockstepError: If nothing could be run: no script, no LightZero, one of another shape, a wrong setting.
    """
    settings = dict(map(parse_setting, arguments.settings))
    if arguments.record:
        settings["cache_validation.record"] = arguments.record
    if arguments.no_shrink:
        settings["cache_validation.shrink_s"] = 0.0
    if arguments.primary:
        settings["world_model_cfg.use_new_cache_manager"] = arguments.primary == "new"
    sessions: list[Lockstep] = []
    ended = HostEnding("crashed")

    def opened(given: Mapping[str, Any], about: Mapping[str, Any]) -> Lockstep:
        config = ValidationConfig.from_mapping(dict(given))
        out = arguments.out or config.out
        command = [str(arguments.script), *arguments.args]
        told = {**about, "script": command, "overrides": {key: str(value) for key, value in settings.items()}}
        sessions.append(Lockstep(out, replace(config, out=str(out)), manifest_extra=told))
        return sessions[0]

    out, err = console(), console(stderr=True)
    try:
        if not arguments.script.is_file():
            run_script(arguments.script, ())
        tell_if_not_compiled(err)
        install(opened, force=True)
        override(settings, lambda text: err.print(text, soft_wrap=True))
        ending = run_script(arguments.script, arguments.args, passed_on=_REFUSALS)
        ended = by_error(ending.error, uncaught=True)
    except (LightZeroMismatch, LightZeroMissing, SettingsError) as refused:
        raise ConfigError(str(refused)) from None
    finally:
        for session in sessions:
            session.close(*ended)
    return _judged(sessions, ending, arguments.script, out, err)


def _judged(sessions: list[Lockstep], ending: Ending, script: Path, out: Any, err: Any) -> int:
    code = EXIT_CODE[Verdict.INCONCLUSIVE]
    if sessions:
        judged = judge_at_close(sessions[0], out, err, sessions[0].config.shrink_s)
        if judged is None:
            return ending.code
        code = judged
    else:
        out.print(f"INCONCLUSIVE: {script} built no UniZero world model, so nothing was compared", soft_wrap=True)
    if ending.code:
        what = "" if ending.error is None else f" ({type(ending.error).__name__}: {str(ending.error)[:200]})"
        text = f"{script} itself ended with exit code {ending.code}{what}; that code is passed on"
        err.print(text, soft_wrap=True)
    return ending.code or code
