"""The conformance kit: whole contracts, clause by clause, for people who subclass or wrap a primitive.

The checks are in `checks`, what they report in `report`. A contract is a list of clauses, each a sentence and a
function that sees whether it holds: one room for each contract's parts, with `trial` for what they are written with
and `contract` for the engine that tries them.
"""

from __future__ import annotations

from .checks import (
    check_counter,
    check_lock,
    check_pool,
    check_rlock,
    check_runner,
    check_rwlock,
    check_semaphore,
)
from .verdict import BrokenClause, ClauseNotRun, ConformanceError, ConformanceReport

__all__ = [
    "BrokenClause",
    "ClauseNotRun",
    "ConformanceError",
    "ConformanceReport",
    "check_counter",
    "check_lock",
    "check_pool",
    "check_rlock",
    "check_runner",
    "check_rwlock",
    "check_semaphore",
]
