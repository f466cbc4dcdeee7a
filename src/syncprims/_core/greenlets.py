"""Refusing to work if gevent's or eventlet's monkey-patching has replaced threads by greenlets."""

from __future__ import annotations

import _thread
from types import BuiltinFunctionType
from typing import Final

from ..errors import PatchedThreadsError
from .foreign import name_of, text_of

# This library identifies threads as the system does: a lock in C knows the thread that holds it. All greenlets of one
# thread are that thread, so a lock would let in several of them at once, and a wait would stop all of them. Both
# libraries replace `_thread.get_ident`, as any library must that has its own idea of a thread. They may do so before or
# after this module is imported. The check whether `get_ident` is still the original costs next to nothing.

_ours: Final = _thread.get_ident if type(_thread.get_ident) is BuiltinFunctionType else None

_INSTEAD: Final = {
    "gevent": "gevent.lock and gevent.pool, or keep threads as they are by gevent.monkey.patch_all(thread=False)",
    "eventlet": "eventlet.semaphore and eventlet.GreenPool, or keep threads as they are by "
    "eventlet.monkey_patch(thread=False)",
}


def refuse_greenlets() -> None:
    """Raise if threads have been replaced."""
    if _thread.get_ident is not _ours:
        raise _refusal(_thread.get_ident)


def _refusal(instead: object) -> PatchedThreadsError:
    module = text_of(getattr(instead, "__module__", None) or "something")
    culprit = module.partition(".")[0]
    advice = _INSTEAD.get(culprit, f"its own locks and pools, or keep it from replacing _thread by {name_of(instead)}")
    return PatchedThreadsError(
        f"{culprit} has put greenlets in the place of Python's threads, and syncprims can't tell greenlets apart: "
        f"several would hold one lock at once. Use {advice}"
    )
