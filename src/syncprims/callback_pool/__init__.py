"""`CallbackPool`: an executor whose callbacks all run, in order, and that loses no error."""

from __future__ import annotations

from ..facts import PoolStats
from .group import Cancellation, TaskGroup
from .pool import CallbackPool
from .task import Task

__all__ = ["CallbackPool", "Cancellation", "PoolStats", "Task", "TaskGroup"]
