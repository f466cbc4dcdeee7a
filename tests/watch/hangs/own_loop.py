"""A coroutine is handed to its own loop as if from another thread, and waited for there."""

import asyncio


async def fetch() -> int:
    return 1


def fetch_now(loop: asyncio.AbstractEventLoop) -> int:
    return asyncio.run_coroutine_threadsafe(fetch(), loop).result()


async def main() -> None:
    print(fetch_now(asyncio.get_running_loop()))


asyncio.run(main())
