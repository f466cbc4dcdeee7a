"""Tasks that outlive the program: callbacks of a pool hand the rest of the work to a queue of RQ.

The pool renders pages while the program runs. Each callback puts the rest into a queue on a Redis server, where it
waits for a worker of RQ, which may run tomorrow and on another machine. The queue is not wrapped as an executor: no
program would be left that waits for a task or calls its callback.

Run it: ``REDIS_URL=redis://localhost python outliving_tasks.py``, and then, in the same folder, the worker: ``rq worker
--burst publishing --url redis://localhost``. It needs RQ: ``pip install rq 'syncprims[redis]'``.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from syncprims import CallbackPool
from syncprims.adapters import RedisLock

PAGES = ("index", "news", "imprint")


def render(page: str) -> str:
    """Render a page into a file; runs in a process of the pool."""
    path = Path(f"{page}.html").absolute()
    path.write_text(f"<title>{page}</title>\n")
    return str(path)


def publish(path: str, url: str) -> None:
    """Add a rendered page to the site map; runs in a worker of RQ, and perhaps twice.

    Several workers may do it at once, so a lock that they share is around it.
    """
    from redis import Redis

    site_map = Path(path).with_name("site.txt")
    with RedisLock(Redis.from_url(url, socket_timeout=5.0), "site map", lease=30.0, timeout=10.0):
        known = site_map.read_text().splitlines() if site_map.exists() else []
        site_map.write_text("".join(f"{each}\n" for each in sorted({*known, path})))  # the same if it is done twice


def main(url: str) -> None:
    """Render all pages, and leave the rest to the queue."""
    from redis import Redis
    from rq import Queue

    queue = Queue("publishing", connection=Redis.from_url(url, socket_timeout=5.0))
    with CallbackPool("process", max_workers=2) as pool:
        for page in PAGES:
            # By name, because the worker has to import it. If the server does not answer, the pool's end raises that.
            pool.apply_async(render, (page,), callback=lambda path: queue.enqueue("outliving_tasks.publish", path, url))
    print(f"{len(queue)} pages wait to be published")


if __name__ == "__main__" and find_spec("rq") is None:
    print("skipped: needs RQ: pip install rq 'syncprims[redis]'")
elif __name__ == "__main__" and "REDIS_URL" not in os.environ:
    print("skipped: needs REDIS_URL in the environment")
elif __name__ == "__main__":
    main(os.environ["REDIS_URL"])
