"""Hash every file under a folder; callbacks count them and write the manifest.

``local_hashing.py`` uses processes of this machine, ``cluster_hashing.py`` a Dask cluster, with a counter and a lock in
Redis for all programs that write the same manifest. Compare the two.

Run it: ``python local_hashing.py [FOLDER]``; without a folder it takes a small one of Python's. It writes
``manifest.sha256`` in the current folder. The other one finds its servers by ``DASK_URL`` and ``REDIS_URL``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from syncprims import CallbackPool
from syncprims.adapters import RedisCounter, RedisLock

NEEDS = {"DASK_URL", "REDIS_URL"}  # like tcp://host:8786 and redis://host:6379


def hash_file(path: str) -> str:
    """Make the file's line of the manifest; in a worker."""
    with open(path, "rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}\n"


def find_files(root: Path) -> list[str]:
    """List the files under the folder, without those that Python compiles at the same time."""
    found = (os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sorted(path for path in found if "__pycache__" not in path)


def main(root: Path, manifest: Path) -> None:
    """Hash the tree, and verify the manifest."""
    from cloudpickle import dumps
    from distributed import Client
    from redis import Redis

    server = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5.0)
    hashed = RedisCounter(server, "hashed")
    lock = RedisLock(server, "manifest", lease=60.0, timeout=10.0)
    before = hashed.value
    manifest.unlink(missing_ok=True)

    def record(line: str) -> None:
        with lock, open(manifest, "a") as out:
            out.write(line)
        hashed.increment()

    files = find_files(root)
    with CallbackPool(Client(os.environ["DASK_URL"]).get_executor(pure=False), dumps=dumps, max_pending=100) as pool:
        for path in files:
            pool.apply_async(hash_file, (path,), callback=record)

    lines = manifest.read_text().splitlines(keepends=True)
    assert sorted(lines) == sorted(map(hash_file, files)), "the manifest is wrong"
    assert hashed.value - before == len(files), "the counter is wrong"
    print(f"{len(files)} files under {root} are hashed, counted and in {manifest}")


if __name__ == "__main__" and (missing := NEEDS - os.environ.keys()):
    print(f"skipped: needs {' and '.join(sorted(missing))} in the environment")
elif __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(json.__file__).parent, Path("manifest.sha256"))
