"""Every sentence about a cache is made of a kind and its facts; whoever finds a kind brings the facts that it names."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_hexdigest

from reports.record.words import Cause, Dimension
from validator.judge import words
from validator.judge.words import Kind, key_text, say

ROOT = Path(__file__).parents[3]
KINDS = {name: kind for name, kind in vars(words).items() if isinstance(kind, Kind)}


def fields(kind: Kind) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(kind.clause) if name is not None}


def all_found() -> Iterator[tuple[str, str, set[str]]]:
    """Go through where a kind is found: the line, the name of the kind, the names of the facts that come with it."""
    for path in sorted((ROOT / "validator").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for function in ast.walk(ast.parse(source)) if "words." in source else ():
            if not isinstance(function, ast.FunctionDef):
                continue
            nodes = list(ast.walk(function))
            grown = {getattr(node.target, "id", "") for node in nodes if isinstance(node, ast.AugAssign)}
            dicts = [(node.lineno, *assigned(node)) for node in nodes if assigned(node)]
            dicts = [each for each in dicts if each[1] not in grown]
            for call in (node for node in nodes if isinstance(node, ast.Call)):
                if not call.args:
                    continue
                facts = call.args[1] if len(call.args) > 1 else ast.Dict([], [])
                facts = latest(facts, dicts, call.lineno)
                if not isinstance(facts, ast.Dict):
                    continue
                names = {str(key.value) for key in facts.keys if isinstance(key, ast.Constant)}
                spread = [value for key, value in zip(facts.keys, facts.values, strict=True) if key is None]
                wholes = [latest(each, dicts, call.lineno) for each in spread]
                if len(names) + len(spread) < len(facts.keys) or not all(isinstance(e, ast.Dict) for e in wholes):
                    continue
                for whole in wholes:
                    assert isinstance(whole, ast.Dict)
                    names |= {str(key.value) for key in whole.keys if isinstance(key, ast.Constant)}
                for name in named(call.args[0]):
                    yield f"{path.relative_to(ROOT)}:{call.lineno}", name, names


def latest(value: ast.expr, dicts: list[tuple[int, str, ast.expr]], line: int) -> ast.expr:
    """Return what a name was given last before a line; any other expression as it is."""
    before = [each for each in dicts if each[1] == getattr(value, "id", "") and each[0] <= line]
    return max(before, key=lambda each: each[0])[2] if before else value


def assigned(node: ast.AST) -> tuple[str, ast.expr] | tuple[()]:
    """Return what an assignment to a name puts there."""
    target = (
        node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
    )
    value = getattr(node, "value", None)
    return (target.id, value) if isinstance(target, ast.Name) and value is not None else ()


def named(argument: ast.expr) -> Iterator[str]:
    """Name the kinds that an argument may be: ``words.X``, or one of two of them."""
    if isinstance(argument, ast.IfExp):
        yield from (*named(argument.body), *named(argument.orelse))
    elif isinstance(argument, ast.Attribute) and isinstance(argument.value, ast.Name) and argument.value.id == "words":
        yield argument.attr


def test_whoever_finds_something_brings_the_facts_that_its_sentence_names() -> None:
    found = [each for each in all_found() if each[1] in KINDS]

    assert [(line, name, facts) for line, name, facts in found if facts != fields(KINDS[name])] == []
    unseen = {name for name in KINDS if fields(KINDS[name])} - {name for _, name, _ in found}
    # These are handed on under another name: to a helper, or from a table.
    handed_on = {"OTHER_DTYPE", "OTHER_DEVICE", "OTHER_SHAPE", "OTHER_LENGTH", "POLICIES_DIFFER"}
    handed_on |= {"EARLIER_VERSION", "EARLIER_LIFE", "SOME_OF_BEFORE", "SOME_NOT_COPIED"}
    handed_on |= {name for name in KINDS if name.startswith("ROWS_")}
    # By the vote of wrong columns, and from tables by verb; say() would raise of each that planted faults show.
    handed_on |= {"ROUNDED_THERE", "ZERO_THERE", "FROM_BEFORE_RESET", "FROM_BEFORE_CROP", "NEVER_APPENDED"}
    handed_on |= {"LAYERS_MIXED", "PARTS_MIXED", "HEADS_PERMUTED", "NOT_REARRANGED", "SHIFTED"}
    handed_on |= {"ELSEWHERE", "ROW_OF_OTHER", "NOT_RESET_LENGTH", "NOT_CROPPED_LENGTH"}
    handed_on |= {"RAISED_ON_APPEND", "RAISED_ON_REARRANGE"}
    assert unseen <= handed_on


def test_two_kinds_never_say_the_same_of_different_causes() -> None:
    said: dict[str, set[Cause]] = {}
    for kind in KINDS.values():
        said.setdefault(kind.clause, set()).add(kind.cause)

    assert {clause for clause, causes in said.items() if len(causes) > 1} == {
        words.NOT_STORED.clause,  # the first set of a key, or a later one
        words.OTHER_ENV.clause,  # another env's entry, or another key's
        words.ROWS_OF_OTHER_ENV.clause,  # and some rows of it
        words.CORRUPTED.clause,  # known to be so, or all that hashes tell
    }


def test_facts_are_written_as_the_report_writes_them() -> None:
    kind = Kind(Dimension.VALUE, Cause.OTHER_KEY, "answers {other_key} of {pool}, {old}")

    text = say(kind, {"other_key": -1, "pool": ("init", 3), "old": "torch.float32"}, "The control (X)", "so it seems")

    assert text == "The control (X) answers ffffffffffffffff of init[3], float32; so it seems."


def test_a_whole_sentence_needs_no_subject() -> None:
    assert say(words.SEARCH_LEFT_ENTRIES, {"left": 2}).startswith("The host began a search with 2 entries")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (7, "0000000000000007"),
        (-1, "ffffffffffffffff"),
        (1 << 70 | 5, "1180591620717411303429"),
        (np.int64(7), "0000000000000007"),
        (np.uint64(2**64 - 1), "ffffffffffffffff"),
        ("7", "'7'"),
        (b"\x00\xff", r"b'\x00\xff'"),
        ((1, "root"), "(1, 'root')"),
        (2.5, "2.5"),
        (None, "None"),
        (frozenset({1}), "frozenset({1})"),
    ],
)
def test_every_key_has_a_text(key: object, text: str) -> None:
    assert key_text(key) == text


def test_a_key_with_a_long_text_or_none_is_told_all_the_same() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    assert key_text("x" * 1000) == "'" + "x" * 179 + "… " + xxh3_64_hexdigest(repr("x" * 1000).encode())
    assert "Mute" in key_text(Mute())
