"""A task waits for other tasks under a lock of asyncio's that one of them needs."""

import asyncio


async def store(lock: asyncio.Condition) -> None:
    async with lock:
        print("stored")


async def main() -> None:
    changed = asyncio.Condition()
    async with changed:
        await asyncio.gather(store(changed), asyncio.sleep(0.01))


asyncio.run(main())
