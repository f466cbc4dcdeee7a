"""Users' objects that refuse any touch: each method that a message or a comparison would call raises `Touched`."""

from __future__ import annotations

from typing import Any, NoReturn


class Touched(BaseException):
    """A method of a hostile object was called."""


def _refuse(name: str) -> object:
    def refuse(self: object, *args: object) -> NoReturn:
        raise Touched(f"{type(self).__name__}.{name}")

    return refuse


def _hostile(base: type, *spared: str) -> Any:
    methods = [
        *("__repr__", "__str__", "__format__", "__bool__", "__len__", "__eq__", "__ne__", "__lt__", "__le__"),
        *("__gt__", "__ge__", "__hash__", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__"),
        *("__float__", "__int__", "__index__", "__neg__", "__abs__", "__round__", "__mod__", "__iter__"),
    ]
    body = {name: _refuse(name) for name in methods if name not in spared}
    return type(f"Hostile{base.__name__.capitalize()}", (base,), body)


HostileFloat = _hostile(float)
HostileInt = _hostile(int)
HostileStr = _hostile(str)
HostileObject = _hostile(object, "__index__")
