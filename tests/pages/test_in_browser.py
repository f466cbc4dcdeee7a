"""The built pages in a real browser: on a phone, a tablet and a desktop, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HEIGHT = 900
WIDTHS = (390, 768, 1280)
# The required contrast of text to its background: WCAG 2.1, AA, for text that is not large.
CONTRAST = 4.5
# The contrast of an element's text to its background, by the definition in WCAG 2.1.
CONTRASTS = """selector => [...document.querySelectorAll(selector)].map(element => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => parts(colour).slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  let ground = element;
  const alpha = one => parts(getComputedStyle(one).backgroundColor)[3] ?? 1;
  while (ground.parentElement && alpha(ground) < 0.5) ground = ground.parentElement;
  const [of_text, of_ground] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  const [dark, bright] = [light(of_text), light(of_ground)].sort((a, b) => a - b);
  return [element.textContent, (bright + 0.05) / (dark + 0.05)];
})"""


# By how many pixels the title of the page is higher than its text.
TITLE = """() => {
  const title = document.querySelector('article h1'), text = document.createRange();
  text.selectNodeContents(title.firstChild);
  return title.getBoundingClientRect().height - text.getBoundingClientRect().height;
}"""


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """Open an empty tab for the site's addresses, and assert that nothing in it fails."""
    context = browser.new_context(base_url=site, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(120_000)  # milliseconds: a machine may be busy
    tab = context.new_page()
    failed: list[str] = []
    tab.on("console", lambda message: failed.append(f"{tab.url}: {message.text}") if message.type == "error" else None)
    tab.on("pageerror", lambda error: failed.append(f"{tab.url}: {error}"))
    yield tab
    context.close()
    assert failed == []


@pytest.mark.timeout(900)  # some sixty pages, and a machine may be busy
def test_no_page_is_wider_than_the_screen(page: Page, folder: Path) -> None:
    """Each page at each width, light and dark; wide parts, like a table, scroll by themselves. No script fails."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    # The sources all look the same, and so do the pages of the index.
    names = [name for name in names if not name.startswith(("_modules/syncprims/", "genindex-"))]
    assert len(names) > 60
    wide = []
    for name in names:
        page.goto(name)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": HEIGHT})
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    wide.append((name, scheme, width))
    assert wide == []


@pytest.mark.timeout(900)
def test_a_title_is_no_higher_than_its_text(page: Page, folder: Path) -> None:
    """The invisible link beside the title of a page takes no line of its own: there is no gap below it."""
    gaps = []
    for path in sorted(folder.glob("howto/*.html")):
        page.goto(f"howto/{path.name}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            if page.evaluate(TITLE) > 15:  # less than a line
                gaps.append((path.name, width))
    assert gaps == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(page: Page, scheme: str) -> None:
    """Text, code, links and the words in coloured cells have enough contrast to their background."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
    faint = []
    for name in ("index.html", "faults.html", "howto/lock-timeout.html", "reference/errors.html", "performance.html"):
        page.goto(name)
        found = page.evaluate(CONTRASTS, "article p, article td, article li, article a, article pre")
        assert len(found) > 10
        faint += [(name, text[:40], round(contrast, 1)) for text, contrast in found if contrast < CONTRAST]
    assert faint == []


def test_each_plot_fits_the_screen(page: Page) -> None:
    """No plot is higher than the window of a laptop, so that its bars can be compared at a glance."""
    page.set_viewport_size({"width": 1280, "height": HEIGHT})
    page.goto("performance.html")
    heights = page.locator("div.drawing img").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert len(heights) > 20
    assert max(heights) < HEIGHT


def test_what_is_copied_can_be_pasted(page: Page) -> None:
    """The button beside an example copies its code, without prompts and without output."""
    page.goto("index.html")
    example = page.locator("div.highlight", has_text=">>> accounts = TimedLock").first
    example.hover()
    example.locator("button.copybtn").click()
    page.wait_for_function("document.querySelector('button.copybtn.success')")
    copied = page.evaluate("navigator.clipboard.readText()")
    compile(copied, "copied", "exec")
    assert copied.startswith("from syncprims import TimedLock\n")
    assert "MainThread has accounts" not in copied


def test_a_page_that_is_not_there_helps_further(page: Page) -> None:
    """The page for a wrong address has links that work from any address."""
    page.goto("404.html")
    links = page.locator("a.reference.internal").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("/", "#"))] == []


def test_the_index_unfolds_to_a_few_screens(page: Page) -> None:
    """The index has a page for each letter; only the page of all is long."""
    page.set_viewport_size({"width": 1280, "height": HEIGHT})
    page.goto("genindex.html")
    names = page.locator("article a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert len(names) > 15
    for name in names:
        page.goto(name)
        if name != "genindex-all.html":
            assert page.evaluate("document.documentElement.scrollHeight") <= 4 * HEIGHT, name


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("timed_lock", "TimedLock.acquire", "TimedLock._on_timeout"),
        ("timed_semaphore", "TimedSemaphore.acquire", "TimedSemaphore.value"),
        ("lock_adapter", "LockAdapter.hold", "LockAdapter._on_acquired"),
        ("callback_pool", "CallbackPool.submit", "CallbackPool._on_settled"),
        ("atomic_counter", "AtomicCounter.increment", "AtomicCounter._on_change"),
    ],
)
def test_members_come_in_the_order_of_their_use(page: Page, name: str, first: str, second: str) -> None:
    """In the reference, methods that users call come before properties, and hooks come last."""
    page.goto(f"reference/{name}.html")
    members = page.locator("dt.sig").evaluate_all("all => all.map(one => one.id)")
    assert members.index(f"syncprims.{first}") < members.index(f"syncprims.{second}")
