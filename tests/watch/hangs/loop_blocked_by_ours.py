"""A task waits for a lock of this library, which a thread has, and stops its event loop."""

import asyncio
import threading

from syncprims import TimedLock

orders = TimedLock(name="orders")
held = threading.Event()


def hold() -> None:
    with orders:
        held.set()
        threading.Event().wait()


async def ship() -> None:
    with orders:
        print("shipped")


threading.Thread(target=hold, daemon=True).start()
held.wait()
asyncio.run(ship())
