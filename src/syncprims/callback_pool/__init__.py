"""`CallbackPool`: an executor that runs every callback, in order, and loses no error."""

from __future__ import annotations

from ..facts import PoolStats
from .group import Cancellation, TaskGroup
from .lazy_results import LazyResults
from .pool import CallbackPool
from .task import Task

__all__ = ["CallbackPool", "Cancellation", "LazyResults", "PoolStats", "Task", "TaskGroup"]
