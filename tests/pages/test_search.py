"""The search of the built pages: for common phrases, the right page is among the first three results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The phrases, and for each the pages that answer it.
WANTED = {
    "context manager": ["howto/lock-timeout", "reference/timed_lock"],
    "thread-safe": ["howto/count", "tutorial"],
    "race condition": ["tutorial"],
    "contention": ["howto/find-what-is-slow"],
    "critical section": ["reference/timed_lock"],
    "stack trace": ["howto/find-a-hang", "howto/why-does-it-hang"],
    "graceful shutdown": ["howto/shut-down"],
    "freeze_support": ["howto/from-multiprocessing-pool"],
    "rate limit": ["howto/limit-threads"],
    "distributed lock": ["past-one-machine"],
    "deadlock": ["explanation/deadlocks"],
    "program hangs": ["howto/why-does-it-hang"],
    "lock timeout": ["howto/lock-timeout"],
    "reader writer lock": ["reference/timed_rw_lock", "howto/read-often"],
    "read-write lock": ["howto/read-often"],
    "semaphore": ["reference/timed_semaphore"],
    "lock per key": ["howto/lock-by-key"],
    "cache stampede": ["howto/share-one-call"],
    "run once": ["reference/once", "howto/share-one-call"],
    "atomic counter": ["reference/atomic_counter"],
    "mutex": ["reference/timed_lock"],
    "reentrant lock": ["reference/timed_rlock"],
    "thread order": ["howto/fixed-order", "reference/ordered_runner"],
    "thread pool callback": ["howto/callbacks", "reference/callback_pool"],
    "process pool timeout": ["reference/callback_pool"],
    "kill task": ["reference/callback_pool"],
    "structured concurrency": ["howto/groups"],
    "multiprocessing.Pool": ["howto/from-multiprocessing-pool"],
    "ThreadPoolExecutor": ["howto/from-concurrent-futures"],
    "BrokenProcessPool": ["howto/from-concurrent-futures", "faults"],
    "asyncio": ["howto/asyncio"],
    "free-threaded": ["howto/free-threaded"],
    "GIL": ["howto/free-threaded"],
    "Redis lock": ["past-one-machine", "reference/adapters"],
    "fencing token": ["past-one-machine", "reference/adapters"],
    "KeyboardInterrupt": ["explanation/interrupts"],
    "signal handler": ["explanation/interrupts"],
    "pytest": ["howto/use-in-tests"],
    "gunicorn": ["howto/web-servers"],
    "uWSGI": ["howto/web-servers"],
    "Django": ["howto/web-servers"],
    "FastAPI": ["howto/web-servers", "howto/asyncio"],
    "Celery": ["howto/celery"],
    "Jupyter": ["howto/notebooks-and-frozen-programs"],
    "PyInstaller": ["howto/notebooks-and-frozen-programs"],
    "logging": ["howto/logging"],
    "fork": ["explanation/limits", "howto/shut-down"],
    "lock order": ["explanation/deadlocks"],
    "py-spy": ["comparison"],
    "benchmark": ["performance"],
    "install": ["index"],
    "subclass": ["howto/subclass"],
    "starvation": ["explanation/shared-locks"],
    "error message": ["howto/troubleshooting"],
    "LockTimeoutError": ["reference/errors"],
    "TimedLock": ["reference/timed_lock"],
}


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    """Open an empty tab for the site's addresses."""
    context = browser.new_context(base_url=site)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("phrase", WANTED)
def test_the_search_finds_the_page_that_answers(page: Page, phrase: str) -> None:
    """It is among the first three results."""
    page.goto(f"search.html?q={quote(phrase)}")
    # The heading changes once all results are listed.
    page.wait_for_function("document.querySelector('#search-results h2')?.textContent == 'Search Results'")
    results = page.locator("#search-results ul.search > li > a")
    found = results.evaluate_all("links => links.map(link => link.getAttribute('href').split('.html')[0])")
    assert set(WANTED[phrase]) & set(found[:3]), found[:5]


def test_the_search_finds_nothing_where_there_is_nothing(page: Page) -> None:
    """Without this the test above might see the results of the previous search."""
    page.goto("search.html?q=xylophone")
    page.wait_for_function("document.querySelector('#search-results h2')?.textContent == 'Search Results'")
    assert page.locator("#search-results ul.search > li").count() == 0
