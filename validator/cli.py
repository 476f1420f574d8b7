"""The command line: which command runs, and what went wrong as an exit code.

Nothing heavy is imported before a command needs it: ``report``, ``gate`` and ``--help`` work without torch.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from reports.content.text import clean
from reports.errors import RunDirectoryError, RunUnreadable
from reports.record.words import EXIT_HARNESS, EXIT_USAGE
from validator.commands.arguments import parser
from validator.errors import LockstepError

_MOST_SAID = 4000  # characters of one problem


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit code: 0 PASS, 1 FAIL, 2 usage or unreadable input, 3 a fault of the harness itself, 5 INCONCLUSIVE.
    """
    arguments = parser().parse_args(argv)
    try:
        # A command is a module of its own name with a function ``main``, imported when it is asked for.
        code: int = import_module(f"validator.commands.{arguments.command}").main(arguments)
        sys.stdout.flush()
        return code
    except (LockstepError, RunUnreadable, RunDirectoryError) as problem:
        print(f"kv-lockstep {arguments.command}: {clean(problem, _MOST_SAID)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"kv-lockstep {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output went away, as 'head' does; nothing may be written while the interpreter shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as fault:
        if arguments.traceback:
            traceback.print_exc()
        print(
            f"kv-lockstep {arguments.command}: unexpected {type(fault).__name__}: {clean(fault, _MOST_SAID)}\n"
            "This is a fault of kv-lockstep or of the training it ran, and no verdict on the candidate.\n"
            "Run the command again with --traceback and report its output; CONTRIBUTING.md says where and with what.",
            file=sys.stderr,
        )
        return EXIT_HARNESS


if __name__ == "__main__":
    sys.exit(main())
