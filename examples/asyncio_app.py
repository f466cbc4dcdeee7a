"""An asyncio application that runs its slow functions in a pool, and awaits the tasks.

Results can be awaited and gathered, a timeout really ends the wait, and callbacks, which run on the pool's thread, pass
progress on to the loop.

Run it: ``python asyncio_app.py``.
"""

from __future__ import annotations

import asyncio
from threading import Event

from syncprims import CallbackPool, TaskTimeoutError


def slowest_prime_below(limit: int) -> int:
    """A function that would hold up the loop."""
    return max(n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1)))


async def main() -> None:
    """Gather results, let one time out, and get progress in the loop."""
    loop = asyncio.get_running_loop()
    news: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    never = Event()

    def tell(settled: int, submitted: int) -> None:
        loop.call_soon_threadsafe(news.put_nowait, (settled, submitted))

    pool = CallbackPool("thread", max_workers=4, on_progress=tell)
    try:
        async with asyncio.timeout(30.0):
            limits = (100, 1000, 10_000)
            primes = await asyncio.gather(*(pool.submit(slowest_prime_below, limit) for limit in limits))
            print(dict(zip(limits, primes, strict=True)))

            try:
                await pool.apply_async(never.wait, (20.0,), timeout=0.1)
            except TaskTimeoutError as error:
                print(f"cut off: {type(error).__name__} after {error.timeout} s")

            counts = [await news.get() for _ in range(4)]
            print(f"{counts[-1][0]} of {counts[-1][1]} tasks were reported to the loop")
    finally:
        never.set()
        await asyncio.to_thread(pool.close, 10.0)  # close() blocks, so it must not run in the loop's thread


if __name__ == "__main__":
    asyncio.run(main())
