"""What a recomputation can show to be wrong, and the words for it."""

from __future__ import annotations

from functools import partial
from typing import Final

from reports.record.words import Cause, Dimension
from shadow.recompute import Suspicion
from validator.judge.words import Kind

_recompute = partial(Kind, Dimension.RECOMPUTE)
# The whole of one: what was done, and where a recomputation says otherwise.
_WHERE = "{detail}: {where} differ from a recomputation without a cache{most}"

OTHER_HISTORY = _recompute(Cause.OTHER_HISTORY, f"{{did}} the history of another env{_WHERE}")
OTHER_ROW = _recompute(Cause.OTHER_ROW, f"{{did}} the history of another row of the batch{_WHERE}")
PADDED_LENGTH = _recompute(Cause.PADDED_LENGTH, f"{{did}} {{found}} tokens where {{expected}} belong there{_WHERE}")
PADDING_ATTENDED = _recompute(Cause.PADDING_ATTENDED, f"{{did}} what attended to padding{_WHERE}")
POSITION_OFF = _recompute(Cause.POSITION_OFF, f"{{did}} tokens at other positions than their own{_WHERE}")
BEGINS_OFF = _recompute(Cause.HISTORY_BEGINS_OFF, f"{{did}} a history that begins too early or too late{_WHERE}")
STALE = _recompute(Cause.STALE_HISTORY, f"{{did}} a history that was over by then{_WHERE}")
OTHER_TOKEN = _recompute(Cause.OTHER_TOKEN, f"{{did}} another token than its own{_WHERE}")
LAYERS_MIXED = _recompute(Cause.LAYER_MIXED, f"{{did}} keys, values or layers in one another's place{_WHERE}")
UNEXPLAINED = _recompute(Cause.UNEXPLAINED, f"{{did}} what nothing explains that was tried{_WHERE}")

KINDS: Final[dict[Suspicion, Kind]] = {
    "another env": OTHER_HISTORY,
    "another row": OTHER_ROW,
    "padded length": PADDED_LENGTH,
    "padding attended": PADDING_ATTENDED,
    "position off": POSITION_OFF,
    "begins elsewhere": BEGINS_OFF,
    "stale": STALE,
    "another token": OTHER_TOKEN,
    "layers mixed": LAYERS_MIXED,
}
