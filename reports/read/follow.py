"""A run in progress, read on from where the last look ended."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from reports.disk.json_file import is_inside, json_file
from reports.disk.layout import RANK_FILE, RUN_FILE, SUMMARY_FILE, rank_file
from reports.disk.losses import noted, told
from reports.disk.process import alive
from reports.errors import RunUnreadable
from reports.read.lines import LONGEST_LINE, MOST_BYTES, RankLines, read_open
from reports.record.records import Divergence
from reports.record.totals import Totals, fold

_MOST_AT_ONCE = 32 << 20


class Follower:
    """Looks at a run again and again; each look reads only what is new.

    Attributes:
        state: ``in progress``, ``closed`` or ``crashed``.
        last: The latest divergence written, if any.
        stalled: What was said of the latest call that hung, if any.
        lost: What is not on disk, and why; empty for nothing.
        gone: Ranks whose process ended without a close.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[int, tuple[IO[bytes], RankLines]] = {}
        self._rests: dict[int, bytes] = {}
        self.state = "in progress"
        self.last: Divergence | None = None
        self.stalled = ""
        self.lost = ""
        self.gone: list[int] = []

    def look(self) -> Totals:
        """Read what is new, and return the totals so far.

        Raises:
            RunUnreadable: If something there is no plain file of the run, or larger than what is written.
        """
        ended = is_inside(self._path, SUMMARY_FILE)  # before reading: the summary is written last
        manifest = json_file(self._path, RUN_FILE, [], []) or {}
        living = alive(manifest)
        for name in sorted(child.name for child in self._path.iterdir()):
            match = RANK_FILE.fullmatch(name)
            if (match or name in (RUN_FILE, SUMMARY_FILE)) and not is_inside(self._path, name):
                raise RunUnreadable(
                    f"{self._path / name} is no plain file inside the run directory; it is not followed"
                )
            if match and int(match[1]) not in self._files:
                self._files[int(match[1])] = ((self._path / name).open("rb"), RankLines(int(match[1])))
        for rank, (file, lines) in self._files.items():
            lines.open = read_open(self._path, rank, [], [])
            while data := file.read(_MOST_AT_ONCE):
                *whole, self._rests[rank] = (self._rests.get(rank, b"") + data).split(b"\n")
                if len(self._rests[rank]) > LONGEST_LINE or file.tell() > MOST_BYTES:
                    limits = f"a line of {LONGEST_LINE:,} bytes, or {MOST_BYTES:,} in all"
                    raise RunUnreadable(f"{self._path / rank_file(rank)} is beyond the limit: {limits}")
                lines.take([raw + b"\n" for raw in whole])
        found = [lines for _, lines in self._files.values()]
        latest = [lines.divergences[-1] for lines in found if lines.divergences]
        self.last = max(latest, key=lambda one: one.t_s, default=None)
        said = [str(one.get("detail")) for lines in found for one in lines.events if one["event"] == "stalled"]
        self.stalled = said[-1] if said else ""
        self.lost = "; ".join(filter(None, (told(noted(self._path, lines.rank)) for lines in found)))
        about = {lines.rank: lines.about if lines.rank else manifest for lines in found if lines.close is None}
        self.gone = [rank for rank, said in about.items() if alive(said) is False]
        if ended:
            self.state = "closed"
        elif living is False:
            self.state = "crashed"
        totals = fold(window for lines in found for window in lines.windows())
        for lines in found:
            for one in lines.divergences:
                totals.divergences.setdefault(one.group, 1)
        return totals

    def close(self) -> None:
        """Let go of the files."""
        for file, _ in self._files.values():
            file.close()
