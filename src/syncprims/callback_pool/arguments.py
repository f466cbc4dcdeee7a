"""The arguments of a pool: their checks, and their names in messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Final, NoReturn, SupportsIndex

from .._core.foreign import guarded, name_of, type_name, words
from .._core.integers import integer
from .._core.lazy import check_runs

if TYPE_CHECKING:
    from inspect import Signature

KINDS: Final = ("thread", "process", "interpreter")

_LONG: Final = 200  # characters of a very long name

# The names that other pools give to arguments which have a different name here.
_OTHER_WORDS: Final[Mapping[str, str]] = {
    "processes": "max_workers",
    "workers": "max_workers",
    "num_workers": "max_workers",
    "n_jobs": "max_workers",
    "thread_name_prefix": "name",
}


def count(name: str, value: SupportsIndex | None) -> int | None:
    """Return the value as an exact integer of at least one, or None for None."""
    if value is None:
        return None
    number = integer(value, name)
    if number < 1:
        raise ValueError(f"{name} must be greater than 0, or None, not {number}")
    return number


def check_optional_function(name: str, value: object) -> None:
    """Raise unless the value is None, or a function that runs when it is called."""
    if value is not None:
        check_runs(value, name)


def positional(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """Return the arguments of a call as a tuple.

    Raises:
        TypeError: They are not an iterable, or are a string, a mapping or a set, which is certainly a mistake.
    """
    if type(value) is tuple:
        return value
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be the arguments in a tuple: for one argument write ({words(value, 40)},)")
    if isinstance(value, (Mapping, set, frozenset)):
        raise TypeError(
            f"{name} must be the arguments in a tuple, in their order, not a {type_name(value)}; "
            f"for one argument write ({words(value, 40)},)"
        )
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} must be the arguments in a tuple, not {words(value)}: write ({words(value, 40)},)")
    return tuple(value)


def by_keyword(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keyword arguments of a call as a dictionary.

    Raises:
        TypeError: They are not a mapping, or one of the keys is not a string.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of argument names to values, or None, not {words(value)}")
    found = dict(value)
    for key in found:
        if not isinstance(key, str):
            raise TypeError(f"the names in {name} must be strings, not {words(key)}")
    return found


def refuse_unknown(cls: str, unknown: Mapping[str, object]) -> None:
    """Raise for unknown arguments, and name the right one if another pool has an argument of that name."""
    for key, value in unknown.items():
        meant = _OTHER_WORDS.get(key)
        advice = "" if meant is None else f": write {meant}={words(value, 40)}"
        raise TypeError(f"{cls} got an unexpected keyword argument {key!r}{advice}")


def refuse_kind(executor: object) -> NoReturn:
    """Raise because an argument is not an executor."""
    known = ", ".join(map(repr, KINDS))
    if isinstance(executor, str):
        raise ValueError(f"executor must be one of {known} or an Executor, not {words(executor)}")
    advice = f"; for so many workers write max_workers={executor}" if type(executor) is int else ""
    raise TypeError(f"executor must be one of {known} or a concurrent.futures.Executor, not {words(executor)}{advice}")


def label_of(fn: object) -> str:
    """Return the name of a function for messages; a partial has the name of its function."""
    kind = type(fn)
    if kind is FunctionType or kind is BuiltinFunctionType:
        name: str = fn.__qualname__  # type: ignore[attr-defined]  # both kinds have it
        if type(name) is str and len(name) < _LONG and name.isprintable():
            return name
    while issubclass(type(fn), partial):
        fn = guarded(None, getattr, fn, "func")
    has_name = isinstance(guarded(None, getattr, fn, "__qualname__", None), str)
    return name_of(fn) if has_name else type_name(fn)


class ShownArguments:
    """The signature to show for a class whose ``__init__`` accepts unknown keywords only to refuse them."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner

    def __get__(self, instance: object, owner: type) -> Signature | None:
        """Return the signature without the unknown keywords, or None for a subclass with its own ``__init__``."""
        init = vars(self._owner)["__init__"]
        if owner.__init__ is not init:  # type: ignore[misc]  # of this very class
            return None
        from inspect import Parameter, signature  # slow to import, and imported already by any caller

        found = signature(init)
        own = [each for each in found.parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
        return found.replace(parameters=own[1:])
