"""A task waits for a queue of threads, and stops its whole event loop."""

import asyncio
import queue

jobs: queue.Queue[str] = queue.Queue()


async def consume() -> str:
    return jobs.get()


async def produce() -> None:
    await asyncio.sleep(0.01)
    jobs.put("job")


async def main() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(consume(), name="consumer")
        group.create_task(produce(), name="producer")


asyncio.run(main())
