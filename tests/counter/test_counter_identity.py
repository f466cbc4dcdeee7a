"""The appearance of a counter: as a number, its names, its identity, and the operations that it refuses."""

from __future__ import annotations

import copy
import inspect
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import ANY

import pytest

from counter.cases import Recording
from hostile import HostileFloat, HostileInt, HostileObject
from syncprims import AtomicCounter


def test_it_reads_as_its_value() -> None:
    """`int()` and formatting read the value, with every format that an int has."""
    counter = AtomicCounter(-1234567)
    assert int(counter) == -1234567
    assert f"{counter}" == "-1234567"
    assert f"{counter:+_}|{counter:>10,}|{counter:x}" == "-1_234_567|-1,234,567|-12d687"
    assert "{:.1e}".format(counter) == "-1.2e+06"  # noqa: UP032  this is the method's own test
    with pytest.raises(ValueError, match="format"):
        f"{counter:spam}"


def test_repr_and_names() -> None:
    """The repr shows name and value; unnamed counters are numbered by kind, and subclasses show their own module."""
    counter = AtomicCounter(7, name="served")
    assert repr(counter) == "<syncprims.AtomicCounter object 'served' at 7>"
    first, second = AtomicCounter(), AtomicCounter()
    kind, _, serial = first.name.partition("-")
    assert kind == "AtomicCounter"
    assert serial.isdigit()
    assert first.name != second.name
    assert Recording().name.startswith("Recording-")
    assert repr(Recording()).startswith(f"<{Recording.__module__}.Recording object 'Recording-")
    assert AtomicCounter(name="").name == ""


@pytest.mark.parametrize("name", [1, b"name", False])
def test_a_name_is_a_string(name: object) -> None:
    """Another type of name is a TypeError."""
    with pytest.raises(TypeError, match="name must be a string"):
        AtomicCounter(name=name)  # type: ignore[arg-type]


def test_options_are_keyword_only() -> None:
    """Only the value goes by position."""
    with pytest.raises(TypeError):
        AtomicCounter(1, 0)  # type: ignore[call-arg]


def test_properties_are_read_only() -> None:
    """No property can be assigned, and no attribute can be added."""
    counter = AtomicCounter()
    for name in ("value", "minimum", "maximum", "name", "vlaue"):
        with pytest.raises(AttributeError):
            setattr(counter, name, 1)


def test_there_is_no_arithmetic_on_it() -> None:
    """``+=`` would look like a racing ``c = c + 1``, so it does not exist; nor do the others."""
    counter = AtomicCounter(7)
    with pytest.raises(TypeError):
        counter += 1  # type: ignore[assignment, operator]
    with pytest.raises(TypeError):
        counter - 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        [0, 1][counter]  # type: ignore[call-overload]
    assert counter.value == 7


def kind_of(given: object) -> str:
    """The name of an object for pytest, without calling the object's methods."""
    return type(given).__name__


def test_it_is_compared_by_identity() -> None:
    """Two counters of one value are not equal, and the hash stays when the value changes."""
    counter = AtomicCounter(7)
    assert counter != AtomicCounter(7)
    assert counter == counter
    assert counter in [AtomicCounter(7), "7", None, counter]
    assert {counter: 1, AtomicCounter(7): 2}[counter] == 1
    before = hash(counter)
    counter.increment()
    assert hash(counter) == before
    with pytest.raises(TypeError):
        _ = counter < AtomicCounter(8)  # type: ignore[operator]


@pytest.mark.parametrize(
    "number", [7, 0, True, 7.0, HostileInt(7), HostileFloat(7.0)], ids=lambda each: type(each).__name__
)
def test_comparing_it_with_a_number_says_what_to_write(number: Any) -> None:
    """On either side, and in comparisons by other code: otherwise they would always differ."""
    counter = AtomicCounter(7, name="served")
    for compare, advice in (
        (lambda: counter == number, "write `counter.value == "),
        (lambda: counter != number, "write `counter.value != "),
        (lambda: [counter].index(number), "write `counter.value == "),
    ):
        with pytest.raises(TypeError, match=advice):
            compare()
    with pytest.raises(TypeError, match=r"the counter 'served' is compared with a number; write `counter.value == 7`"):
        assert 7 == counter  # noqa: SIM300  the number asks the counter


@pytest.mark.parametrize("other", ["7", None, 7j, [7], HostileObject(), ANY], ids=kind_of)
def test_anything_else_it_is_compared_with_decides_itself(other: Any) -> None:
    """With objects that are not numbers, the other object decides."""
    counter = AtomicCounter(7)
    assert counter.__eq__(other) is NotImplemented
    assert counter.__ne__(other) is NotImplemented
    assert (counter == ANY, counter != ANY) == (True, False)


@pytest.mark.parametrize("value", [0, 7])
def test_asking_whether_it_is_true_says_what_to_write(value: int) -> None:
    """Otherwise it would be true even at 0."""
    counter: Any = AtomicCounter(value, name="left")
    asking: list[Callable[[], object]] = [partial(bool, counter), partial(all, [counter]), lambda: counter or None]
    for ask in asking:
        with pytest.raises(TypeError, match=r"the counter 'left' is neither true nor false; write `if counter.value:`"):
            ask()


@pytest.mark.parametrize(
    "use", [copy.copy, copy.deepcopy, *(lambda c, p=p: pickle.dumps(c, p) for p in range(pickle.HIGHEST_PROTOCOL + 1))]
)
@pytest.mark.parametrize("kind", [AtomicCounter, Recording])
def test_it_is_not_pickled_or_copied(use: Callable[[object], object], kind: type[AtomicCounter]) -> None:
    """Pickling and copying are refused, and the message names the counter and says what to do instead."""
    with pytest.raises(TypeError, match=r"Counter.*send its value|Recording.*send its value"):
        use(kind(7))


def test_it_can_be_referenced_weakly_and_goes_away() -> None:
    """A counter can be referenced weakly, and the library does not keep it alive."""
    counter = AtomicCounter()
    with pytest.raises(TimeoutError):
        counter.wait_until(1, timeout=0)
    reference = weakref.ref(counter)
    del counter
    assert reference() is None


SECTIONS = ["**Fairness.**", "**Thread safety.**", "**Differences from threading.**", "**Subclassing.**"]


def test_the_documentation_has_its_sections() -> None:
    """The class tells what a subclass's author needs, in the house's order, and every public member is documented."""
    text = inspect.getdoc(AtomicCounter) or ""
    places = [text.index(section) for section in SECTIONS]
    assert places == sorted(places)
    assert "_on_change" in text[places[-1] :]
    public = [name for name in vars(AtomicCounter) if not name.startswith("_")]
    assert [name for name in public if not inspect.getdoc(getattr(AtomicCounter, name))] == []
