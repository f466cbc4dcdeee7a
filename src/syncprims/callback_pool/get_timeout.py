"""`GetTimeoutError`: the error of `Task.get`, for programs that were written for `multiprocessing.Pool`."""

from __future__ import annotations

import multiprocessing

from ..errors import PoolTimeoutError


class GetTimeoutError(PoolTimeoutError, multiprocessing.TimeoutError):
    """A `PoolTimeoutError` that ``except multiprocessing.TimeoutError`` catches too, which is not a `TimeoutError`."""
