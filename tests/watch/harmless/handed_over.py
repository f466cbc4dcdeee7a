"""Two threads hand two locks to each other, released by a third one that can run."""

from __future__ import annotations

import threading

ping, pong = threading.Lock(), threading.Lock()
ping.acquire()
pong.acquire()


def umpire() -> None:
    for _ in range(3):
        ping.release()
        pong.release()
        threading.Event().wait(0.7)


def play(lock: threading.Lock) -> None:
    for _ in range(3):
        lock.acquire()


players = [threading.Thread(target=play, args=(lock,)) for lock in (ping, pong)]
for player in players:
    player.start()
umpire()
for player in players:
    player.join()
print("done")
