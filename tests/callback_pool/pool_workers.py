"""The functions that the pool's tests run in worker processes: a module that the workers can import."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from polling import until_exists


def add(a: int, b: int = 0) -> int:
    return a + b


def identity(value: Any) -> Any:
    return value


def wait_for_file(path: str) -> str:
    """Run until the file exists: a task that the test can end."""
    until_exists(path)
    return path


def touch_and_wait(begun: str, go: str) -> str:
    """Report that it runs, and run until the other file exists."""
    Path(begun).touch()
    return wait_for_file(go)


def announce_then_hang(path: str) -> NoReturn:
    """Report its process, then never return."""
    partial = Path(path + ".part")
    partial.write_text(str(os.getpid()))
    partial.rename(path)
    while True:
        threading.Event().wait()


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def leave(status: int) -> NoReturn:
    sys.exit(status)


def die() -> NoReturn:
    os._exit(3)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pid() -> int:
    return os.getpid()


def ignores_interrupts() -> bool:
    signal.raise_signal(signal.SIGINT)
    return True


def say(text: str) -> str:
    print(text)
    return text


def lock_result() -> Any:
    return threading.Lock()


class Refusing:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return fail, ("will not be unpickled",)


def refusing_result() -> Refusing:
    return Refusing()


class SpeechlessError(Exception):
    """Raises when it is put into words."""

    def __str__(self) -> str:
        raise LookupError("no words")


def raise_speechless_error() -> NoReturn:
    raise SpeechlessError


class RefusingWithoutWords:
    """Can be pickled, and raises an error that can't be printed when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return raise_speechless_error, ()


def refusing_result_without_words() -> RefusingWithoutWords:
    return RefusingWithoutWords()


class TwoArgumentError(Exception):
    """Can be pickled, but not unpickled: its __init__ takes other arguments than its args hold."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


def raise_two_argument_error() -> NoReturn:
    raise TwoArgumentError(7, "lost on the way")


class LockError(Exception):
    """Can't be pickled."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def raise_lock_error() -> NoReturn:
    raise LockError


started_with: list[object] = []


def remember(value: object) -> None:
    started_with.append(value)


def remembered() -> list[object]:
    return started_with


def try_remembered() -> bool:
    """Acquire the remembered lock, if it is free."""
    lock: Any = started_with[-1]
    taken: bool = lock.acquire(block=False)
    return taken


def fail_to_start() -> NoReturn:
    raise RuntimeError("this initializer always fails")


AT_UNPICKLING: list[Any] = []  # functions to call here when a `Parcel` is unpickled


class Parcel:
    """A result whose unpickling runs a function of the program, in the thread that does it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return unwrap, ()


def unwrap() -> Parcel:
    for call in AT_UNPICKLING:
        call()
    return Parcel()


def send_parcel() -> Parcel:
    return Parcel()
