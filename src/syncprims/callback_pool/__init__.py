"""`CallbackPool`: an executor whose callbacks all run, in order, and whose errors nobody can lose."""

from __future__ import annotations

from .pool import CallbackPool
from .stats import PoolStats
from .task import Task

__all__ = ["CallbackPool", "PoolStats", "Task"]
