"""Options of a watch: in a call, on the command line and in the environment."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from typing import Final, Self

ENVIRONMENT: Final = "SYNCPRIMS_WATCH"


class WatchOptions:
    """The options of a watch.

    Attributes:
        after: The seconds after which a deadlock is reported.
        asleep: The seconds after which it is reported that all threads wait; None for never.
        order: Whether lock orders are reported.
        slow: The seconds after which any wait is reported; None for never.
        breaks: Whether a certain deadlock is broken by a `DeadlockError`.
        children: Whether the program's children are watched too.
        json: The file for JSON lines, or None.
        file: The file for the text, or None for the standard error stream.
        ignored: Places whose lock orders are not reported.
        record: Whether there is a recording, or the file that it goes to.
        metrics: Whether there are metrics, and if it is a number, the port of this machine at which they are served.
    """

    __slots__ = (
        "after",
        "asleep",
        "breaks",
        "children",
        "file",
        "ignored",
        "json",
        "metrics",
        "order",
        "record",
        "slow",
    )

    def __init__(
        self,
        *,
        after: float = 1.0,
        asleep: float | None = 5.0,
        order: bool = False,
        slow: float | None = None,
        breaks: bool = False,
        children: bool = False,
        json: str | None = None,
        file: str | None = None,
        ignored: Sequence[str] = (),
        record: str | os.PathLike[str] | bool = False,
        metrics: bool | int = False,
    ) -> None:
        self.after: float = _seconds("after", after)
        self.asleep: float | None = None if asleep is None else _seconds("asleep", asleep)
        self.order: bool = order
        self.slow: float | None = None if slow is None else _seconds("slow", slow)
        self.breaks: bool = breaks
        self.children: bool = children
        self.json: str | None = json
        self.file: str | None = file
        self.ignored: tuple[str, ...] = tuple(ignored)
        self.record: str | bool = record if isinstance(record, bool) else _path(record)
        self.metrics: bool | int = _port(metrics)

    def arguments(self) -> list[str]:
        """The options as arguments of the command line, for the environment of children."""
        found = ["--after", f"{self.after!r}"]
        found += ["--no-asleep"] if self.asleep is None else ["--asleep", f"{self.asleep!r}"]
        found += ["--slow", f"{self.slow!r}"] if self.slow is not None else []
        found += ["--order"] if self.order else []
        found += ["--break"] if self.breaks else []
        found += ["--children"] if self.children else []
        found += ["--json", self.json] if self.json is not None else []
        found += ["--record", self.record] if isinstance(self.record, str) else []
        found += ["--metrics"] if self.metrics is not False else []  # without the port, which is in use
        found += [argument for each in self.ignored for argument in ("--ignore", each)]
        return found + (["--file", self.file] if self.file is not None else [])

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> tuple[Self, list[str]]:
        """Read options from the beginning of a command line; return them and the other arguments.

        Raises:
            ValueError: An option is wrong; the message says which.
        """
        values: dict[str, object] = {}
        left = list(arguments)
        while left and left[0].startswith("-") and left[0] not in ("-", "-m", "--"):
            name, equals, value = left.pop(0).partition("=")
            if name == "--metrics":
                values["metrics"] = _port_of(value) if equals else True
                continue
            key = _FLAGS.get(name)
            if key is not None and not equals:
                values[key[0]] = key[1]
                continue
            wanted = _VALUES.get(name)
            if wanted is None:
                raise ValueError(f"there is no option {name}")
            if not equals:
                if not left:
                    raise ValueError(f"{name} takes a value")
                value = left.pop(0)
            if wanted in ("json", "file", "record"):
                values[wanted] = value
            elif wanted == "ignored":
                values[wanted] = (*values.get(wanted, ()), value)  # type: ignore[misc]  # a tuple
            else:
                try:
                    values[wanted] = float(value)
                except ValueError:
                    raise ValueError(f"{name} takes a number of seconds, not {value!r}") from None
        return cls(**values), left  # type: ignore[arg-type]  # the tables below have the right types

    @classmethod
    def from_environment(cls, value: str) -> Self | None:
        """Read the environment variable: 0 is off, 1 is on, and options are as on the command line.

        Raises:
            ValueError: The value is not valid.
        """
        text = value.strip()
        if text.lower() in ("", "0", "off", "no", "false"):
            return None
        if text.lower() in ("1", "on", "yes", "true"):
            return cls()
        options, left = cls.parse(shlex.split(text))
        if left:
            raise ValueError(f"{left[0]!r} is no option")
        return options


_FLAGS: Final = {
    "--order": ("order", True),
    "--break": ("breaks", True),
    "--children": ("children", True),
    "--no-asleep": ("asleep", None),
}
_VALUES: Final = {
    "--after": "after",
    "--asleep": "asleep",
    "--slow": "slow",
    "--json": "json",
    "--file": "file",
    "--ignore": "ignored",
    "--record": "record",
}


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
    return float(value)


def _port_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--metrics takes the number of a port, not {text!r}") from None


def _port(metrics: object) -> bool | int:
    if not isinstance(metrics, int):
        raise TypeError(f"metrics must be True, False or the number of a port, not {metrics!r}")
    if not isinstance(metrics, bool) and not 0 < metrics < 65536:
        raise ValueError(f"metrics must be a port from 1 to 65535, not {metrics!r}")
    return metrics


def _path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"record must be a path, True or False, not {path!r}")
    text = os.fsdecode(path)
    if not text.endswith((".html", ".json")):
        raise ValueError(f"record must end with .html or .json, not {text!r}")
    text = os.path.abspath(text)  # the program, or a child, may change the current folder
    if not os.path.isdir(os.path.dirname(text)):
        raise ValueError(f"record must be in a folder that is there, not {text!r}")
    return text
