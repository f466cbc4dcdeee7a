"""A task takes a lock of asyncio's that it has: a method calls another one that locks too."""

import asyncio


class Account:  # noqa: D101
    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def deposit(self) -> None:
        async with self.lock:
            await self.log()

    async def log(self) -> None:
        async with self.lock:
            print("deposited")


asyncio.run(Account().deposit())
