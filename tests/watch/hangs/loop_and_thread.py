"""A thread waits for a coroutine under a lock, which the thread of the loop wants."""

import asyncio
import threading

lock = threading.Lock()
held, asked = threading.Event(), threading.Event()


async def answer() -> int:
    return 1


def ask(loop: asyncio.AbstractEventLoop) -> None:
    with lock:
        held.set()
        future = asyncio.run_coroutine_threadsafe(answer(), loop)
        print(future.result())


async def main() -> None:
    held.wait()
    with lock:
        print("main")


async def begin() -> None:
    loop = asyncio.get_running_loop()
    threading.Thread(target=ask, args=(loop,), daemon=True, name="asker").start()
    await main()


asyncio.run(begin())
