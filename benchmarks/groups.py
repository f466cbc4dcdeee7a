"""All groups of measurements, in the order of the page."""

from __future__ import annotations

from . import costs, counters, floors, forms, locks, orders, pools, sharing, sharing_floors
from .measuring import Group

GROUPS: tuple[Group, ...] = tuple(
    group
    for module in (forms, locks, sharing, counters, orders, pools, costs, floors, sharing_floors)
    for group in module.GROUPS
)
