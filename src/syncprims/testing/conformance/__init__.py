"""The conformance kit: whole contracts, clause by clause, for people who subclass or wrap a primitive.

The checks are in `checks`, their reports in `verdict`. A contract is a list of clauses. Each clause is a sentence and a
function that tests whether the sentence is true. There is a file for each part of a contract, `trial` has the tools for
clauses, and `contract` has the engine that tries them.
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
