"""`CallbackPool`: an executor whose callbacks all run, in order, and that loses no error."""

from __future__ import annotations

from ..facts import PoolStats
from .group import Cancellation, TaskGroup
from .lazy_results import LazyResults
from .pool import CallbackPool
from .task import Task

__all__ = ["CallbackPool", "Cancellation", "LazyResults", "PoolStats", "Task", "TaskGroup"]
