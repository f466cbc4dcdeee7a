"""The module that is imported."""

from __future__ import annotations

import threading


def use() -> None:
    import loading  # type: ignore[import-not-found]  # in the folder of this program

    print(loading)


importer = threading.Thread(target=use, name="importer")
importer.start()
importer.join()
