"""Two tasks take two locks of asyncio's in both orders."""

import asyncio


async def move(one: asyncio.Lock, other: asyncio.Lock) -> None:
    async with one:
        await asyncio.sleep(0.01)  # the other task has its first lock as well
        async with other:
            print("moved")


async def main() -> None:
    here, there = asyncio.Lock(), asyncio.Lock()
    async with asyncio.TaskGroup() as group:
        group.create_task(move(here, there), name="out")
        group.create_task(move(there, here), name="back")


asyncio.run(main())
