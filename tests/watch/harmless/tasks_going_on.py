"""Tasks that wait for long for locks of asyncio's and of threading, and whose waits all end."""

import asyncio
import threading

LONG = 1.5


async def wait_for_a_sleeper() -> None:
    lock = asyncio.Lock()

    async def take() -> None:
        async with lock:
            await asyncio.sleep(LONG)

    await asyncio.gather(take(), take())


async def end_by_timeout() -> None:
    here, there = asyncio.Lock(), asyncio.Lock()
    both = asyncio.Barrier(2)

    async def move(one: asyncio.Lock, other: asyncio.Lock) -> None:
        async with one:
            await both.wait()
            async with asyncio.timeout(LONG), other:
                raise AssertionError("both have it")

    found = await asyncio.gather(move(here, there), move(there, here), return_exceptions=True)
    assert TimeoutError in map(type, found), found


async def end_by_wait_for() -> None:
    lock = asyncio.Lock()
    async with lock:
        try:
            await asyncio.wait_for(lock.acquire(), LONG)
        except TimeoutError:
            return
    raise AssertionError("it has it twice")


async def hand_over() -> None:
    baton = asyncio.Lock()
    await baton.acquire()

    async def release() -> None:
        await asyncio.sleep(0.01)
        baton.release()  # from now on it is a signal
        await asyncio.sleep(LONG)
        baton.release()

    releasing = asyncio.create_task(release())
    await baton.acquire()
    await baton.acquire()
    await releasing


async def hold_over_an_await() -> None:
    unwanted, wanted = threading.Lock(), threading.Lock()

    def want() -> None:
        with wanted:
            pass

    with unwanted, wanted:
        thread = threading.Thread(target=want)
        thread.start()
        await asyncio.sleep(LONG)
    await asyncio.to_thread(thread.join)


async def use_threads() -> None:
    loop = asyncio.get_running_loop()
    never = threading.Event()

    async def answer() -> int:
        await asyncio.sleep(LONG)
        return 1

    def ask() -> int:
        return asyncio.run_coroutine_threadsafe(answer(), loop).result()

    waiting = loop.run_in_executor(None, never.wait, LONG)
    assert await asyncio.to_thread(ask) == 1
    assert await waiting is False


async def await_others_under_a_lock() -> None:
    lock = asyncio.Lock()

    async def wait() -> None:
        async with lock:
            pass

    waiting = asyncio.create_task(wait())
    async with lock:
        await asyncio.gather(asyncio.sleep(LONG), asyncio.sleep(0.01))
    await waiting


async def wait_for_a_signal() -> None:
    signal = asyncio.Lock()
    await signal.acquire()
    ending = asyncio.create_task(asyncio.sleep(LONG))
    ending.add_done_callback(lambda _: signal.release())
    await signal.acquire()


async def main() -> None:
    await asyncio.gather(
        wait_for_a_signal(),
        wait_for_a_sleeper(),
        end_by_timeout(),
        end_by_wait_for(),
        hand_over(),
        hold_over_an_await(),
        use_threads(),
        await_others_under_a_lock(),
    )


threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
for thread in threads:
    thread.start()
asyncio.run(main())
for thread in threads:
    thread.join()
print("done")
