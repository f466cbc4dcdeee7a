"""What may be given to a pool, and what messages call it."""

from __future__ import annotations


def check_count(name: str, value: int | None) -> None:
    """Raise unless the value is None or an integer of at least one."""
    if value is None:
        return
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be greater than 0, or None, not {value}")


def check_callable(name: str, value: object) -> None:
    """Raise unless the value is None or can be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")


def name_of(fn: object) -> str:
    """Return what messages call a function."""
    name: str | None = getattr(fn, "__qualname__", None)
    if name:
        return name
    inner = getattr(fn, "func", fn)  # a partial's
    return str(getattr(inner, "__qualname__", type(inner).__name__))
