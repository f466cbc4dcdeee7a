"""The built pages, served on a free port of this machine, in Chromium.

``nox -s docs`` builds the pages and runs these tests. By hand: set SYNCPRIMS_PAGES to the folder of the built pages.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT = 60.0
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that writes no log."""

    def log_message(self, *arguments: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="session")
def folder() -> Path:
    """Return the folder of the built pages."""
    if "SYNCPRIMS_PAGES" not in os.environ:
        pytest.skip("these tests need the built pages: run `nox -s docs`")
    return Path(os.environ["SYNCPRIMS_PAGES"]).resolve(strict=True)


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[str]:
    """Serve the pages; yield their base address."""
    handler = functools.partial(Quiet, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join(LIMIT)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no Chromium here")
    with api.sync_playwright() as playwright:
        # Without its sandbox it also runs as root, in a container; it loads only our own pages.
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()
