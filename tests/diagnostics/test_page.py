"""The saved page: complete in one file, and in a browser quick and usable with mouse, keyboard and in the dark."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from syncprims import TimedLock
from syncprims.diagnostics import Span, record
from syncprims.diagnostics.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")


def some_spans(count: int, threads: int = 8) -> list[Span]:
    """A made-up recording, always the same: threads that wait for locks and hold them, with something nested."""
    choose = random.Random(3)
    clocks = [0.0] * threads
    spans: list[Span] = []
    for number in range(count):
        thread = number % threads
        start = clocks[thread] + choose.random() * 1e-4
        end = start + choose.expovariate(2000)
        kind = "wait" if number // threads % 2 == 0 else "hold"
        lock = choose.randrange(6)
        spans.append(
            Span(kind, f"lock-{lock}", f"worker-{thread}", thread, f"mill.py:{lock} in work", start, end, key=(lock,))
        )
        if kind == "hold" and choose.random() < 0.2:
            spans.append(
                Span("hold", "inner", f"worker-{thread}", thread, "mill.py:99 in nest", start, (start + end) / 2)
            )
        clocks[thread] = end
    return sorted(spans, key=lambda span: span.start)


Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Open a page in the browser, run a script in it, and return the script's result."""

    def ask(html: str, script: str, *options: str, width: int = 1280) -> Any:
        assert BROWSER is not None
        answer = (
            "<script>parent.document.body.replaceChildren(Object.assign(document.createElement('pre'), {id: 'answer', "
        )
        answer += f"textContent: JSON.stringify((() => {{ {script} }})())}}));</script>"
        html = html.replace("</body>", f"{answer}</body>")
        if width < 500:  # no window gets narrower, but a frame in it does
            frame = f'<iframe width="{width}" height="844" style="border: 0" srcdoc="{escape(html)}"></iframe>'
            html = f'<!doctype html><meta charset="utf-8"><body style="margin: 0">{frame}</body>'
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        command = [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={max(width, 500)},900",
            f"--user-data-dir={tmp_path / 'profile'}", *options, "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
        found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found is not None, done.stdout[-2000:] + done.stderr[-2000:]
        text = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
        return json.loads(text)

    return ask


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """It has no address, no import and no reference to another file."""
    html = page(some_spans(50), "")
    assert not re.search(r"""https?:|//[a-z]+\.|\bsrc\s*=|\bhref\s*=|@import|url\(|\bimport\b|\bfetch\(""", html)
    assert html.count("<html") == html.count("</html>") == 1


def test_names_can_end_no_script(tmp_path: Path) -> None:
    """A lock's name that looks like markup stays text."""
    name = "</script><script>alert(1)</script>"
    with record() as recording, TimedLock(name=name):
        pass
    recording.save(tmp_path / "trace.html")
    html = (tmp_path / "trace.html").read_text("utf-8")
    assert html.count("<script") == html.count("</script>") == 1
    assert "\\u003c/script>" in html


def test_what_was_dropped_is_said_on_the_page(tmp_path: Path) -> None:
    """The page of an incomplete recording says so."""
    with record(capacity=1) as recording:
        for _ in range(3):
            with TimedLock():
                pass
    recording.save(tmp_path / "trace.html")
    assert "2 older ones were dropped" in (tmp_path / "trace.html").read_text("utf-8")


@in_browser
def test_it_draws_every_thread_and_the_table(ask: Ask) -> None:
    """The page draws pixels in the colour of each lock, and its table has the lines of the recording."""
    spans = some_spans(200)
    seen = ask(
        page(spans, "a note", "on a day, process 7"),
        """
        draw();
        const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, drawn = {};
        for (let at = 0; at < pixels.length; at += 4) {
          const color = [pixels[at], pixels[at + 1], pixels[at + 2]].join();
          drawn[color] = (drawn[color] || 0) + 1;
        }
        // What a colour is, in the numbers of a pixel.
        const number = color => {
          pen.setTransform(1, 0, 0, 1, 0, 0);
          pen.fillStyle = color;
          pen.fillRect(0, 0, 4, 4);
          return [...pen.getImageData(1, 1, 1, 1).data].slice(0, 3).join();
        };
        const seen = data.names.map((name, place) => drawn[number(color(place))] || 0);
        return {seen, different: new Set(data.names.map((name, place) => number(color(place)))).size,
                lines: document.querySelectorAll("tbody tr").length, note: byId("note").textContent,
                summary: byId("summary").textContent, legend: byId("legend").textContent,
                about: byId("about").textContent, columns: document.querySelectorAll("thead tr:last-child th").length};
        """,
    )
    assert min(seen["seen"]) > 100
    assert seen["different"] == len(seen["seen"]) == 7
    assert seen["lines"] == 7
    assert seen["columns"] == 10
    assert seen["note"] == "a note"
    assert seen["about"] == "on a day, process 7"
    assert seen["summary"].startswith(f"{len(spans)} spans of 8 threads in")
    assert seen["legend"].split() == ["waithold"]


@in_browser
def test_pointing_at_a_span_tells_its_place(ask: Ask) -> None:
    """The span under the pointer shows its lock, thread, duration and call site; outside of spans nothing is shown."""
    spans = some_spans(40, threads=4)
    seen = ask(
        page(spans, ""),
        """
        const place = spans.findIndex(span => data.kinds[span[KIND]] === "hold" && span[LASTS] > 100);
        const span = spans[place], box = canvas.getBoundingClientRect();
        const point = (x, y) => canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: x, clientY: y}));
        point(box.left + x(span[START] + span[LASTS] / 2), box.top + middle(span));
        const told = byId("tip").hidden ? "" : byId("tip").textContent;
        point(box.left + 5, box.top + middle(span));
        return {place, told, gone: byId("tip").hidden};
        """,
    )
    span = spans[seen["place"]]
    assert span.name in seen["told"]
    assert span.thread in seen["told"]
    assert span.site in seen["told"]
    assert seen["gone"] is True


@in_browser
def test_it_can_be_used_with_the_keyboard(ask: Ask) -> None:
    """Keys zoom, pan, go from span to span, zoom to one and deselect; the canvas can be focused and has a name."""
    seen = ask(
        page(some_spans(60), ""),
        """
        const press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        const width = () => to - from, steps = {whole: width()};
        press("+"); steps.zoomed = width();
        const left = from; press("ArrowRight"); steps.panned = from - left;
        press("n"); steps.first = selected; press("n"); steps.second = selected; press("p"); steps.back = selected;
        steps.details = byId("details").textContent;
        press("Enter"); steps.to = [width(), spans[selected][LASTS]];
        press("Escape"); steps.free = selected;
        press("0"); steps.again = width();
        steps.focus = canvas.tabIndex; steps.label = canvas.getAttribute("aria-label");
        steps.live = byId("details").getAttribute("aria-live");
        return steps;
        """,
    )
    assert seen["zoomed"] < seen["whole"] == seen["again"]
    assert seen["panned"] > 0
    assert (seen["first"], seen["second"], seen["back"], seen["free"]) == (0, 1, 0, -1)
    assert "worker-" in seen["details"]
    assert seen["to"][0] == pytest.approx(seen["to"][1] * 1.8, rel=0.01)
    assert seen["focus"] == 0
    assert seen["label"].startswith("Timeline")
    assert seen["live"] == "polite"


@in_browser
def test_it_can_be_used_with_the_mouse(ask: Ask) -> None:
    """The wheel zooms around the pointer, dragging pans, a double click zooms to a span, and nothing runs off."""
    seen = ask(
        page(some_spans(60, threads=2), ""),
        """
        const box = canvas.getBoundingClientRect(), at = (x, y) => ({clientX: box.left + x, clientY: box.top + y,
          bubbles: true, cancelable: true, pointerId: 1});
        const pointed = time(400);
        canvas.setPointerCapture = () => {};
        canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, ...at(400, 60)}));
        const steps = {moved: Math.abs(time(400) - pointed), width: to - from};
        const left = from;
        canvas.dispatchEvent(new PointerEvent("pointerdown", at(400, 60)));
        canvas.dispatchEvent(new PointerEvent("pointermove", at(350, 60)));
        canvas.dispatchEvent(new PointerEvent("pointerup", at(350, 60)));
        steps.dragged = from - left;
        steps.selected = selected;
        const roll = deltaY => canvas.dispatchEvent(new WheelEvent("wheel", {deltaY, ...at(400, 60)}));
        for (let turn = 0; turn < 200; turn++) roll(-100);
        steps.narrow = to - from;
        for (let turn = 0; turn < 400; turn++) roll(100);
        steps.wide = (to - from) / length;
        const span = spans.find(span => x(span[START] + span[LASTS]) - x(span[START]) > 3);
        canvas.dispatchEvent(new MouseEvent("dblclick", at(x(span[START] + span[LASTS] / 2), middle(span))));
        steps.to = (to - from) / span[LASTS];
        return steps;
        """,
    )
    assert seen["moved"] < 1
    assert seen["dragged"] > 0
    assert seen["selected"] == -1
    assert seen["narrow"] == pytest.approx(0.5)
    assert seen["wide"] == pytest.approx(1.04)
    assert seen["to"] == pytest.approx(1.8, rel=0.01)


@in_browser
def test_the_table_and_the_legend_choose_what_is_shown(ask: Ask) -> None:
    """A click on a line fades everything else, a click on a head sorts, and the legend hides a kind."""
    seen = ask(
        page(some_spans(200), ""),
        """
        const line = document.querySelector("tbody tr");
        line.click();
        const steps = {faded: spans.filter(fades).length, chosen: line.className};
        line.click();
        steps.unfaded = spans.filter(fades).length;
        const firsts = () => [...document.querySelectorAll("tbody tr")].map(line => data.names[line.row[0]]);
        const button = document.querySelector("thead tr:last-child th button");
        button.click(); steps.up = firsts(); button.click(); steps.down = firsts();
        steps.sorted = document.querySelector("[aria-sort]").getAttribute("aria-sort");
        const wait = byId("legend").querySelector("button");
        wait.click();
        const hidden = spans.find(span => data.kinds[span[KIND]] === "wait");
        steps.hidden = spanAt(x(hidden[START] + hidden[LASTS] / 2), middle(hidden));
        steps.pressed = wait.getAttribute("aria-pressed");
        return steps;
        """,
    )
    assert 0 < seen["faded"] < 200
    assert seen["chosen"] == "chosen"
    assert seen["unfaded"] == 0
    assert seen["up"] == sorted(seen["up"])
    assert seen["down"] == seen["up"][::-1]
    assert seen["sorted"] == "descending"
    assert seen["hidden"] == -1
    assert seen["pressed"] == "false"


def a_jam() -> list[Span]:
    """A made-up recording: a thread waits for a lock that two others have one after the other, and some go wrong."""

    def span(kind: str, name: str, thread: str, start: float, end: float, outcome: str = "", holder: str = "") -> Span:
        site = f"shop.py:{len(thread)} in {thread}"
        return Span(kind, name, thread, len(thread), site, start, end, outcome=outcome, key=(name,), holder=holder)

    return [
        span("hold", "stock", "first", 0.0, 0.004),
        span("wait", "stock", "second", 0.001, 0.004, holder="first"),
        span("wait", "stock", "waiter", 0.002, 0.009, holder="first"),
        span("wait", "prices", "unlucky", 0.003, 0.0031, "deadlock refused", holder="since before"),
        span("hold", "stock", "second", 0.004, 0.009),
        span("task", "mill: crunch", "mill-worker", 0.005, 0.006, "failed: ValueError"),
        span("wait", "orders", "impatient", 0.006, 0.008, "gave up"),
        span("hold", "stock", "waiter", 0.009, 0.010),
    ]


@in_browser
def test_a_wait_names_who_was_in_the_way(ask: Ask) -> None:
    """The details of a wait name its holders, the longest first; a click on one goes there. A table line sums up."""
    seen = ask(
        page(a_jam(), ""),
        """
        select(2);
        const steps = {wait: [...byId("details").children].map(line => line.textContent)};
        byId("details").querySelector("button").click();
        steps.gone = [selected, byId("details").textContent.startsWith("hold stock: 5.00 ms")];
        select(3);
        steps.before = byId("details").textContent;
        select(-1);
        [...document.querySelectorAll("tbody tr")].find(line => line.textContent.includes("in waiter")).click();
        steps.line = [...byId("details").children].map(line => line.textContent);
        return steps;
        """,
    )
    assert seen["wait"] == [
        "wait stock: 7.00 ms",
        "waiter (ident 6), from 2.00 ms",
        "shop.py:6 in waiter",
        "held by second for 5.00 ms of it, shop.py:6 in second",
        "held by first for 2.00 ms of it, shop.py:5 in first",
    ]
    assert seen["gone"] == [4, True]
    assert seen["before"].endswith("deadlock refusedheld by since before when it began")
    assert seen["line"] == [
        "stock, shop.py:6 in waiter",
        "1 times; waited 7.00 ms in all, 7.00 ms at most; held or ran 1.00 ms in all, 1.00 ms at most",
        "waited 5.00 ms while it was held by shop.py:6 in second",
        "waited 2.00 ms while it was held by shop.py:5 in first",
    ]


@in_browser
def test_the_details_are_of_what_was_chosen_last(ask: Ask) -> None:
    """A click in the table, a filter or a hidden kind leaves no details of another span."""
    seen = ask(
        page(a_jam(), ""),
        """
        const details = () => byId("details").firstChild.textContent, steps = [];
        const line = text => [...document.querySelectorAll("tbody tr")].find(line => line.textContent.includes(text));
        select(0); steps.push(details());
        line("crunch").click(); steps.push(details());
        select(5); steps.push(details());
        line("crunch").click(); steps.push(details());
        line("prices").click(); steps.push(details());
        line("prices").click(); steps.push(details());
        select(0); byId("filter").value = "prices"; filter(); steps.push(details());
        byId("filter").value = ""; filter(); select(2);
        byId("legend").querySelector(".wait").click(); steps.push(details());
        return steps;
        """,
    )
    nothing = "Point at a span to see what it is, or click it to keep it here."
    assert seen == [
        "hold stock: 4.00 ms",
        "mill: crunch, shop.py:11 in mill-worker",
        "task mill: crunch: 1.00 ms",
        "task mill: crunch: 1.00 ms",
        "prices, shop.py:7 in unlucky",
        nothing,
        nothing,
        nothing,
    ]


@in_browser
def test_the_filter_leaves_what_has_all_its_words(ask: Ask) -> None:
    """Words are searched in names, threads, places, kinds and outcomes; threads and lines without them disappear."""
    seen = ask(
        page(a_jam(), ""),
        """
        const look = text => {
          byId("filter").value = text;
          byId("filter").dispatchEvent(new Event("input"));
          draw();
          const threads = rows.filter(row => row.lanes.length).map(row => row.name);
          const lines = [...document.querySelectorAll("tbody tr")].filter(line => !line.hidden).length;
          return [drawn, threads, lines, byId("summary").textContent];
        };
        const press = (key, target) => target.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        const steps = {stock: look("STOCK"), both: look("wait second"), place: look("shop.py:11"),
                       outcome: look("refused"), none: look("nowhere"), all: look(" ")};
        look("stock"); press("n", byId("filter")); steps.typed = selected;
        press("Escape", byId("filter")); steps.cleared = [byId("filter").value, drawn];
        press("/", document.body); steps.focus = document.activeElement.id;
        return steps;
        """,
    )
    assert seen["stock"] == [5, ["first", "second", "waiter"], 3, "5 of 8 spans of 6 threads in 10.0 ms"]
    assert seen["both"][:3] == [1, ["second"], 1]
    assert seen["place"][:3] == [1, ["mill-worker"], 1]
    assert seen["outcome"][:3] == [1, ["unlucky"], 1]
    assert seen["none"][:3] == [0, [], 0]
    assert seen["all"][0] == 8
    assert seen["all"][3] == "8 spans of 6 threads in 10.0 ms"
    assert seen["typed"] == -1
    assert seen["cleared"] == ["", 8]
    assert seen["focus"] == "filter"


@in_browser
def test_what_went_wrong_can_be_brought_out(ask: Ask) -> None:
    """A button for each kind of outcome fades everything else; the spans have marks, and the table shows it."""
    seen = ask(
        page(a_jam(), ""),
        """
        draw();
        const rgb = color => color.match(/[0-9a-f]{2}/gi).map(part => parseInt(part, 16)).join();
        const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        let flagged = 0;
        for (let at = 0; at < pixels.length; at += 4)
          flagged += [pixels[at], pixels[at + 1], pixels[at + 2]].join() === rgb(colors.bad);
        const buttons = [...byId("outcomes").children];
        const steps = {flagged, buttons: buttons.map(each => each.textContent)};
        buttons.find(each => each.outcome === "failed").click();
        step(1); steps.selected = selected;
        steps.faded = spans.filter(fades).length;
        buttons.find(each => each.outcome === "failed").click();
        steps.unfaded = spans.filter(fades).length;
        steps.lines = [...document.querySelectorAll("td .bad")].map(each => each.textContent).sort();
        return steps;
        """,
    )
    assert seen["flagged"] > 50
    assert seen["buttons"] == ["1 deadlock refused", "1 failed", "1 gave up"]
    assert (seen["selected"], seen["faded"], seen["unfaded"]) == (5, 7, 0)
    assert seen["lines"] == ["1 deadlock refused", "1 failed: ValueError", "1 gave up"]


@in_browser
@pytest.mark.parametrize("count", [30, 10_000])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_at_any_width(ask: Ask, width: int, count: int) -> None:
    """On a telephone, a tablet and a laptop no column, button or text is outside the window."""
    seen = ask(
        page(some_spans(count), "", "2026-11-27 00:08:12 +0000, process 1234567, CPython 3.11.9"),
        """
        const right = [...document.querySelectorAll("header *, td, th, #details, canvas")]
          .filter(each => each.getClientRects().length).map(each => each.getBoundingClientRect().right);
        return {width: innerWidth, right: Math.max(...right), scroll: document.documentElement.scrollWidth,
                inner: [...document.querySelectorAll("#right, #left")].map(each => each.scrollWidth - each.clientWidth),
                cut: [...document.querySelectorAll("td")].filter(one => one.scrollWidth > one.clientWidth + 1).length,
                timeline: canvas.getBoundingClientRect().width};
        """,
        width=width,
    )
    assert seen["width"] == width
    assert seen["right"] <= width + 0.5
    assert seen["scroll"] <= width
    assert seen["inner"] == [0, 0]
    assert seen["cut"] == 0
    assert seen["timeline"] > width * 0.4


def test_the_page_says_when_and_where_it_was_recorded(tmp_path: Path) -> None:
    """The date with its zone, the process and the version of Python are in the page and in the trace."""
    with record() as recording:
        pass
    recording.save(tmp_path / "trace.html")
    recording.save(os.fsencode(tmp_path / "trace.json"))  # type: ignore[arg-type]  # a path may be bytes, too
    about = re.compile(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}, process {os.getpid()}, CPython 3\.\d+\.\d+")
    for name in ("trace.html", "trace.json"):
        assert about.search((tmp_path / name).read_text("utf-8"))


@in_browser
def test_it_is_light_or_dark(ask: Ask) -> None:
    """It follows the system's preference, the button reverses it, and the canvas follows."""
    script = """
        const steps = [colors.paper];
        byId("theme").click(); steps.push(colors.paper);
        byId("theme").click(); steps.push(colors.paper);
        return steps;
    """
    assert ask(page(some_spans(20), ""), script) == ["#fff", "#15181c", "#fff"]
    assert ask(page(some_spans(20), ""), script, "--force-dark-mode", "--blink-settings=preferredColorScheme=0") in (
        ["#15181c", "#fff", "#15181c"],
        ["#fff", "#15181c", "#fff"],  # if the browser can't be set to prefer the dark
    )


@in_browser
def test_an_empty_recording_says_so(ask: Ask) -> None:
    """A page without spans shows a sentence, not an error."""
    seen = ask(page([], ""), "draw(); zoom(0.5); step(1); return {selected, lines: data.table.length};")
    assert seen == {"selected": -1, "lines": 0}


@in_browser
def test_ten_thousand_spans_are_drawn_without_lag(ask: Ask) -> None:
    """At every zoom, a frame of 10,000 spans takes far less time than the eye would notice."""
    spans = some_spans(10_000, threads=16)
    assert len(spans) >= 10_000
    seen = ask(
        page(spans, ""),
        """
        const frames = [];
        for (const part of [1, 0.3, 0.1, 0.01, 0.001]) {
          show(0, length * part);
          const times = [];
          for (let turn = 0; turn < 9; turn++) {
            const begun = performance.now();
            draw();
            pen.getImageData(0, 0, 1, 1);
            times.push(performance.now() - begun);
          }
          frames.push(Math.min(...times));  // what else the machine does only adds to it
        }
        const begun = performance.now();
        for (let turn = 0; turn < 1000; turn++) spanAt(labels + turn % 600, RULER + turn % 500);
        const pointing = (performance.now() - begun) / 1000, chosen = performance.now();
        document.querySelector("tbody tr").click();
        byId("filter").value = "worker lock-1"; filter();
        draw();
        return {frames, pointing, choosing: performance.now() - chosen, left: drawn};
        """,
    )
    print("milliseconds for each frame", seen["frames"], "and for each look under the pointer", seen["pointing"])
    assert 0 < seen["left"] < len(spans) / 4
    assert seen["choosing"] < 500
    assert max(seen["frames"]) < 100
    assert seen["pointing"] < 5
