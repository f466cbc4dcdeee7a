// Using: moving about in the timeline, choosing in the table, and beginning it all.

// -- moving ----------------------------------------------------------------------------------------------------------

function show(start, end) {
  const room = length * 0.02, wide = Math.min(Math.max(end - start, NARROWEST), length + 2 * room);
  from = Math.max(-room, Math.min(start, length + room - wide));
  to = from + wide;
  redraw();
}

function zoom(factor, around = (from + to) / 2) {
  show(around - (around - from) * factor, around + (to - around) * factor);
}

const pan = part => show(from + (to - from) * part, to + (to - from) * part);
const fit = () => show(-length * 0.02, length * 1.02);

function spanAt(left, top) {
  const y = top + view.scrollTop;
  if (left < LABELS || top < RULER) return -1;
  for (let thread = 0; thread < tops.length; thread++) {
    const lane = lanes[thread][Math.floor((y - tops[thread]) / BAR)];
    if (y < tops[thread] || !lane) continue;
    const slack = (to - from) / (width - LABELS) * 2, at = time(left);
    // What is under the pointer, else what is next to it: many spans are narrower than a hand is steady.
    const after = first(lane, span => span[START] + span[LASTS] >= at);
    for (const place of [lane[after], lane[after - 1]])
      if (place !== undefined && spans[place][START] <= at + slack && spans[place][START] + spans[place][LASTS] >= at - slack
          && shown[spans[place][KIND]]) return place;
  }
  return -1;
}

function select(place) {
  selected = place;
  if (place < 0) {
    byId("details").textContent = "Point at a span to see what it is, or click it to keep it here.";
  } else {
    const span = spans[place], left = span[START], right = left + span[LASTS];
    fill(byId("details"), describe(span));
    if (right < from || left > to) show((left + right - to + from) / 2, (left + right + to - from) / 2);
    const y = middle(span);
    if (y < view.scrollTop + RULER + BAR || y > view.scrollTop + tall - BAR) view.scrollTop = y - tall / 2;
  }
  redraw();
}

function step(direction) {
  const start = selected < 0 ? (direction > 0 ? -1 : spans.length) : selected;
  for (let place = start + direction; place >= 0 && place < spans.length; place += direction)
    if (shown[spans[place][KIND]] && !fades(spans[place])) return select(place);
}

function zoomTo(place) {
  if (place < 0) return;
  const span = spans[place], room = Math.max(span[LASTS], NARROWEST) * 0.4;
  show(span[START] - room, span[START] + span[LASTS] + room);
}

const KEYS = {
  "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), "0": fit, Home: fit, w: () => zoom(0.7),
  s: () => zoom(1.4), a: () => pan(-0.15), d: () => pan(0.15), ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
  ArrowUp: () => view.scrollBy(0, -3 * BAR), ArrowDown: () => view.scrollBy(0, 3 * BAR), n: () => step(1),
  p: () => step(-1), Enter: () => zoomTo(selected), Escape: () => { choose(null); select(-1); },
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  // Buttons keep their Enter, and the table its arrows.
  if (event.target.closest("button") && event.key === "Enter") return;
  if (event.target.closest("#right") && event.key.startsWith("Arrow")) return;
  event.preventDefault();
  KEYS[event.key]();
});

canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(Math.sign(sideways) * 0.08);
  else zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, time(Math.max(LABELS, event.offsetX)));
}, {passive: false});

let drag = null;
canvas.addEventListener("pointerdown", event => {
  drag = {x: event.clientX, y: event.clientY, from, to, scroll: view.scrollTop, moved: false};
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", event => {
  if (drag) {
    const byX = event.clientX - drag.x, byY = event.clientY - drag.y;
    drag.moved ||= Math.abs(byX) + Math.abs(byY) > 4;
    if (!drag.moved) return;
    canvas.classList.add("dragging");
    const micros = byX / (width - LABELS) * (drag.to - drag.from);
    show(drag.from - micros, drag.to - micros);
    view.scrollTop = drag.scroll - byY;
    return;
  }
  const place = spanAt(event.offsetX, event.offsetY), tip = byId("tip");
  if (place !== hovered) {
    hovered = place;
    redraw();
  }
  tip.hidden = place < 0;
  if (place < 0) return;
  fill(tip, describe(spans[place]));
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
});
canvas.addEventListener("pointerup", event => {
  if (drag && !drag.moved) select(spanAt(event.offsetX, event.offsetY));
  drag = null;
  canvas.classList.remove("dragging");
});
canvas.addEventListener("pointercancel", () => { drag = null; });
canvas.addEventListener("pointerleave", () => { hovered = -1; byId("tip").hidden = true; redraw(); });
canvas.addEventListener("dblclick", event => zoomTo(spanAt(event.offsetX, event.offsetY)));
view.addEventListener("scroll", redraw);

// -- the table -------------------------------------------------------------------------------------------------------

const COLUMNS = ["lock, call site", "count", "sum", "mean", "p99", "max", "sum", "mean", "p99", "max"];
let sorting = {column: 2, ascending: false};

function choose(row) {
  const names = row && [data.names.indexOf(row[0]), data.sites.indexOf(row[1])];
  chosen = names && chosen && names[0] === chosen[0] && names[1] === chosen[1] ? null : names;
  for (const line of document.querySelectorAll("tbody tr")) {
    const mine = chosen !== null && line.row === row;
    line.classList.toggle("chosen", mine);
    line.querySelector("button").setAttribute("aria-pressed", mine);
  }
  redraw();
}

function head() {
  const thead = document.createElement("thead");
  const groups = thead.insertRow(), names = thead.insertRow();
  for (const [text, columns] of [["", 2], ["waited", 4], ["held or ran", 4]]) {
    const cell = groups.appendChild(document.createElement("th"));
    cell.colSpan = columns;
    cell.className = text ? "group first" : "group";
    cell.textContent = text;
  }
  COLUMNS.forEach((text, column) => {
    const cell = names.appendChild(document.createElement("th")), button = cell.appendChild(document.createElement("button"));
    cell.scope = "col";
    if (column === 2 || column === 6) cell.className = "first";
    button.textContent = text;
    button.onclick = () => {
      sorting = {column, ascending: sorting.column === column ? !sorting.ascending : column === 0};
      fillTable();
    };
  });
  return thead;
}

function fillTable() {
  const table = document.querySelector("table"), body = table.tBodies[0];
  const value = row => sorting.column ? row[sorting.column + 1] : (row[0] + "\n" + row[1]).toLowerCase();
  const sorted = [...data.table].sort((one, other) => value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0);
  if (!sorting.ascending) sorted.reverse();
  table.querySelectorAll("thead tr:last-child th").forEach((cell, column) => {
    if (column === sorting.column) cell.setAttribute("aria-sort", sorting.ascending ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
  body.replaceChildren(...sorted.map(row => {
    const line = document.createElement("tr"), cell = line.insertCell(), button = document.createElement("button");
    const site = document.createElement("small");
    line.row = row;
    line.onclick = () => choose(row);
    button.textContent = row[0];
    site.textContent = row[1];
    button.append(site);
    cell.append(button);
    row.slice(2).forEach((number, place) => {
      const cell = line.insertCell();
      cell.textContent = place ? say(number) : number;
      if (place === 1 || place === 5) cell.className = "first";
    });
    return line;
  }));
}

// -- beginning -------------------------------------------------------------------------------------------------------

byId("summary").textContent = `${spans.length.toLocaleString("en")} spans of ${data.threads.length} threads in ${say(length)}`;
byId("note").textContent = data.note;
data.kinds.forEach((kind, number) => {
  if (!spans.some(span => span[KIND] === number)) return;
  const button = byId("legend").appendChild(document.createElement("button"));
  button.textContent = kind;
  button.style.setProperty("--color", `var(--${kind})`);
  button.setAttribute("aria-pressed", true);
  button.onclick = () => {
    shown[number] = !shown[number];
    button.setAttribute("aria-pressed", shown[number]);
    redraw();
  };
});
byId("in").onclick = () => zoom(0.7);
byId("out").onclick = () => zoom(1.4);
byId("fit").onclick = fit;
byId("tabled").onclick = () => {
  const hidden = document.querySelector("main").classList.toggle("wide");
  byId("tabled").setAttribute("aria-pressed", !hidden);
};
byId("theme").onclick = () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  takeColors();
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", takeColors);

const table = document.createElement("table");
table.createCaption().textContent = "Where the time went; click a line to see it in the timeline.";
table.append(head(), document.createElement("tbody"));
byId("right").append(table);
fillTable();
select(-1);
takeColors();
fit();
new ResizeObserver(resize).observe(view);
resize();
