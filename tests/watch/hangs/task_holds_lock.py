"""A task holds a lock of threading over an await, and another task of the loop wants it."""

import asyncio
import threading

cache = threading.Lock()


async def refresh(name: str) -> None:
    with cache:
        await asyncio.sleep(0.01)  # the other task begins
        print(name)


async def main() -> None:
    await asyncio.gather(refresh("a"), refresh("b"))


asyncio.run(main())
