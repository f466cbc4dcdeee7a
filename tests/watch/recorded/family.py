"""A program that starts children in all ways, each of which takes a lock and prints its id."""

import multiprocessing
import os
import subprocess
import sys
import threading


def work() -> None:
    in_child = threading.Lock()
    with in_child:
        os.write(1, f"{os.getpid()}\n".encode())


def fork() -> None:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work()
        sys.exit()
    in_parent = threading.Lock()
    with in_parent:
        pass
    subprocess.run([sys.executable, __file__, "child"], check=True)
    for method in ("spawn", "fork"):
        if method in multiprocessing.get_all_start_methods():
            process = multiprocessing.get_context(method).Process(target=work)  # type: ignore[attr-defined]  # each context has one
            process.start()
            process.join()
    if hasattr(os, "fork"):
        fork()
