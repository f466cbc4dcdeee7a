"""A task holds a lock of threading while it awaits a thread that wants it."""

import asyncio
import threading

lock = threading.Lock()


def work() -> None:
    with lock:
        print("done")


async def main() -> None:
    with lock:
        await asyncio.to_thread(work)


asyncio.run(main())
