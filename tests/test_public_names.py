"""The library in tools: the names in its public modules, and the arguments of its classes."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Self

import pytest

import syncprims
from syncprims import AtomicCounter, CallbackPool, OrderedRunner, TimedLock, TimedRLock

MODULES = [
    "syncprims",
    "syncprims.adapters",
    "syncprims.diagnostics",
    "syncprims.errors",
    "syncprims.testing",
    "syncprims.watch",
]
CLASSES: set[type] = {
    kind
    for module in map(importlib.import_module, MODULES)
    for kind in (getattr(module, name) for name in module.__all__)
    if inspect.isclass(kind)
    # The others have the arguments of Exception, or are never made by users.
    and not (issubclass(kind, BaseException) and "__init__" not in vars(kind))
    and not getattr(kind, "_is_protocol", False)
}


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_lists_its_public_names(name: str) -> None:
    """`dir()` and completion show all public names, and no others."""
    module = importlib.import_module(name)
    listed = {each for each in dir(module) if not each.startswith("__")}
    parts = {each.partition(".")[2] for each in MODULES[1:]} if module is syncprims else set()
    assert listed == {*module.__all__, *parts}
    for each in listed:
        assert getattr(module, each) is not None
    assert {"__all__", "__doc__", "__name__"} <= set(dir(module))


@pytest.mark.parametrize("kind", sorted(CLASSES, key=str))
def test_a_class_shows_the_arguments_that_it_takes(kind: type) -> None:
    """None of them hides its arguments behind ``*args, **kwargs``."""
    kinds = [each.kind for each in inspect.signature(kind).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_a_pool_s_subclass_shows_its_own_arguments() -> None:
    """It shows those of its own ``__init__`` if it has one, with the keywords that it passes on; else the pool's."""

    class Named(CallbackPool):
        def __init__(self, name: str, **others: Any) -> None:
            super().__init__(name=name, **others)

    class Same(CallbackPool):
        pass

    assert list(inspect.signature(Named).parameters) == ["name", "others"]
    assert inspect.signature(Same) == inspect.signature(CallbackPool)
    assert "grace" in inspect.signature(CallbackPool).parameters


@pytest.mark.parametrize("kind", sorted(CLASSES, key=str))
def test_a_signature_can_be_written_down(kind: type) -> None:
    """Each default appears as code, not as an object at an address or of C."""
    shown = [each.default for each in inspect.signature(kind).parameters.values() if each.default is not each.empty]
    assert all(isinstance(each, (bool, int, float, str, tuple, frozenset, type(None), type(...))) for each in shown)


def test_a_lock_shows_its_own_arguments_and_a_subclass_its_own() -> None:
    """It is that of the inspected class, whether `__init__` or `__new__` defines it."""

    class Ward(TimedLock):
        def __init__(self, ward: str, *, beds: int = 1) -> None:
            super().__init__(name=ward)
            self.beds = beds

    class Made(TimedRLock):
        def __new__(cls, place: str) -> Self:
            return super().__new__(cls, place)

        def __init__(self, place: str) -> None:
            super().__init__(name=place)

    def arguments(kind: type) -> list[str]:
        return list(inspect.signature(kind).parameters)

    assert arguments(TimedLock) == arguments(TimedRLock) == ["timeout", "name"]
    assert arguments(Ward) == ["ward", "beds"]
    assert arguments(Made) == ["place"]
    assert Made("here").name == "here"


@pytest.mark.parametrize(
    ("kind", "hooks"),
    [
        (TimedLock, ["_on_wait", "_on_acquired", "_on_timeout"]),
        (syncprims.LockAdapter, ["_on_wait", "_on_acquired", "_on_timeout"]),
        (OrderedRunner, ["_next", "_on_error"]),
        (AtomicCounter, ["_on_change"]),
        (syncprims.CallbackPool, ["_on_settled"]),
    ],
)
def test_a_hooks_arguments_have_no_names_to_keep(kind: Any, hooks: list[str]) -> None:
    """They are positional only, so that a subclass may rename them; type checkers agree."""
    for hook in hooks:
        _, *parameters = inspect.signature(getattr(kind, hook)).parameters.values()
        assert parameters
        assert {each.kind for each in parameters} == {inspect.Parameter.POSITIONAL_ONLY}
