"""Seats that are booked together: a lock for each seat, made when it is asked for, and gone when no thread uses it.

A theatre has more seats and shows than one lock should guard, and it is not known beforehand which are wanted. A
`KeyedLock` has the lock of each seat of each show, and `acquire_all` acquires those of one booking in one order. So two
customers who want the same two seats in opposite order don't deadlock, and neither of them gets only one.

Run it: ``python seat_booking.py``.
"""

from __future__ import annotations

import random

from syncprims import CallbackPool, KeyedLock, acquire_all

SHOWS = ("matinee", "evening")
SEATS = range(1, 31)
CUSTOMERS = 24

Seat = tuple[str, int]


class Theatre:
    """The seats that are sold, and to whom."""

    def __init__(self) -> None:
        self.locks = KeyedLock(timeout=5.0, name="seats")
        self.sold: dict[Seat, str] = {}  # each entry is guarded by the lock of its seat

    def book(self, customer: str, seats: list[Seat]) -> bool:
        """Sell all of these seats to a customer, or none; return whether they were free."""
        with acquire_all(*(self.locks[seat] for seat in seats), timeout=5.0):
            if any(seat in self.sold for seat in seats):
                return False
            for seat in seats:
                assert self.sold.setdefault(seat, customer) == customer, "another thread has sold it too"
        return True


def go_out(theatre: Theatre, customer: str) -> list[Seat]:
    """Choose two seats of a show again and again, until both are free."""
    chance = random.Random(customer)
    while True:
        show = chance.choice(SHOWS)
        seats = [(show, number) for number in chance.sample(SEATS, 2)]
        if theatre.book(customer, seats):
            return seats


def main() -> None:
    """Let eight threads book for many customers at once."""
    theatre = Theatre()
    customers = [f"customer {number}" for number in range(CUSTOMERS)]
    with CallbackPool("thread", max_workers=8) as office:
        booked = office.map(go_out, [theatre] * CUSTOMERS, customers)
        for customer, seats in zip(customers, booked, strict=True):
            assert [theatre.sold[seat] for seat in seats] == [customer] * 2
    print(f"{CUSTOMERS} customers have {len(theatre.sold)} of {len(SHOWS) * len(SEATS)} seats, each of them two")
    print(f"{len(theatre.locks)} locks are left")


if __name__ == "__main__":
    main()
