"""The options of a watch, by a call, by the command line and by the environment."""

from __future__ import annotations

import re
from typing import Any

import pytest

from syncprims.watch.options import WatchOptions

EACH: dict[str, Any] = {
    "after": 0.25,
    "asleep": None,
    "order": True,
    "slow": 2.0,
    "breaks": True,
    "children": True,
    "json": "-",
    "file": "reports of today.txt",
    "ignored": ("bank.py:12", "bank.py:12,audit.py:30"),
    "record": "trace.html",
    "metrics": True,
}


def facts_of(options: WatchOptions) -> dict[str, object]:
    """The options as data."""
    return {name: getattr(options, name) for name in WatchOptions.__slots__}


@pytest.mark.parametrize("options", [{}, EACH, *({name: value} for name, value in EACH.items())], ids=str)
def test_children_get_the_same_options(options: dict[str, Any]) -> None:
    """They are arguments, which are read back unchanged."""
    before = WatchOptions(**options)
    after, left = WatchOptions.parse([*before.arguments(), "program.py", "--after", "9"])
    assert left == ["program.py", "--after", "9"]
    assert facts_of(after) == facts_of(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aftr", "1"], "there is no option --aftr"),
        (["--after"], "--after takes a value"),
        (["--after", "soon"], "--after takes a number of seconds, not 'soon'"),
        (["--slow=0"], "slow must be more than 0 seconds, not 0.0"),
        (["--asleep=inf"], "asleep must be more than 0 seconds, not inf"),
        (["--after=nan"], "after must be more than 0 seconds, not nan"),
        (["--metrics=http"], "--metrics takes the number of a port, not 'http'"),
        (["--order=yes"], "there is no option --order"),
        (["--record", "trace.png"], "trace.png"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str) -> None:
    """The message says which is wrong, and which values are allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        WatchOptions.parse(arguments)


@pytest.mark.parametrize(("value", "after"), [("0", None), ("off", None), ("", None), ("1", 1.0), ("--after 3", 3.0)])
def test_the_environment_turns_it_on(value: str, after: float | None) -> None:
    """1 is on, options are on, and 0 is off."""
    options = WatchOptions.from_environment(value)
    assert (None if options is None else options.after) == after


def test_the_environment_names_no_program() -> None:
    """The remaining arguments have no meaning there."""
    with pytest.raises(ValueError, match=r"'program\.py' is no option"):
        WatchOptions.from_environment("--order program.py")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "1"}, "after must be a number"),
        ({"slow": True}, "slow must be a number"),
        ({"metrics": "9464"}, "metrics must be True, False or the number of a port"),
        ({"record": 1}, "record must be a path"),
    ],
)
def test_wrong_types_are_refused(options: dict[str, Any], message: str) -> None:
    """A call refuses them, before anything is replaced."""
    with pytest.raises(TypeError, match=message):
        WatchOptions(**options)
