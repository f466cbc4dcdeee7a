// Using: moving about in the timeline, choosing the visible part, the table, and the start.

// -- moving ----------------------------------------------------------------------------------------------------------

function show(start, stop) {
  const room = length * 0.02, wide = Math.min(Math.max(stop - start, NARROWEST), length + 2 * room);
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
  if (left < labels || top < RULER) return -1;
  for (const row of rows) {
    const lane = y < row.top ? undefined : row.lanes[Math.floor((y - row.top) / BAR)];
    if (!lane) continue;
    const slack = (to - from) / (width - labels) * 2, at = time(left);
    // The span under the pointer, else the nearest one: many spans are too narrow for a hand.
    const after = first(lane[0], span => end(span) >= at);
    for (const place of [lane[0][after], lane[0][after - 1]])
      if (place !== undefined && spans[place][START] <= at + slack && end(spans[place]) >= at - slack) return place;
  }
  return -1;
}

function select(place) {
  selected = place;
  sayDetails();
  if (place >= 0) {
    const span = spans[place], left = span[START], right = end(span);
    if (right < from || left > to) show((left + right - to + from) / 2, (left + right + to - from) / 2);
    const y = middle(span);
    if (y < view.scrollTop + RULER + BAR || y > view.scrollTop + tall - BAR) view.scrollTop = y - tall / 2;
  }
  redraw();
}

// The details of the selected span, or otherwise of the chosen line of the table.
function sayDetails() {
  const row = chosen && data.table.find(row => row[0] === chosen[0] && row[1] === chosen[1]);
  if (selected >= 0) fill(byId("details"), describe(selected));
  else if (row) fill(byId("details"), describeRow(row));
  else byId("details").textContent = "Point at a span to see what it is, or click it to keep it here.";
}

function step(direction) {
  const start = selected < 0 ? (direction > 0 ? -1 : spans.length) : selected;
  for (let place = start + direction; place >= 0 && place < spans.length; place += direction)
    if (isDrawn[place] && !fades(spans[place])) return select(place);
}

function zoomTo(place) {
  if (place < 0) return;
  const span = spans[place], room = Math.max(span[LASTS], NARROWEST) * 0.4;
  show(span[START] - room, end(span) + room);
}

const KEYS = {
  "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1.4), "0": fit, Home: fit, w: () => zoom(0.7),
  s: () => zoom(1.4), a: () => pan(-0.15), d: () => pan(0.15), ArrowLeft: () => pan(-0.15), ArrowRight: () => pan(0.15),
  ArrowUp: () => view.scrollBy(0, -3 * BAR), ArrowDown: () => view.scrollBy(0, 3 * BAR), n: () => step(1),
  p: () => step(-1), Enter: () => zoomTo(selected), Escape: () => { selected = -1; choose(null); bringOut(null); },
  "/": () => byId("filter").focus(),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  // The filter handles its own keys, buttons their Enter, and the table its arrows.
  if (event.target.closest("input")) {
    if (event.key !== "Escape") return;
    byId("filter").value = "";
    byId("filter").blur();
    return filter();
  }
  if (event.target.closest("button") && event.key === "Enter") return;
  if (event.target.closest("#right") && event.key.startsWith("Arrow")) return;
  event.preventDefault();
  KEYS[event.key]();
});

canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(Math.sign(sideways) * 0.08);
  else zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, time(Math.max(labels, event.offsetX)));
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
    const micros = byX / (width - labels) * (drag.to - drag.from);
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
  fill(tip, describe(place).map(line => typeof line === "string" ? line : line[0]));
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)) + "px";
});
function letGo() {
  drag = null;
  canvas.classList.remove("dragging");
}
canvas.addEventListener("pointerup", event => {
  if (drag && !drag.moved) select(spanAt(event.offsetX, event.offsetY));
  letGo();
});
canvas.addEventListener("pointercancel", letGo);  // for example when a finger scrolls the page
canvas.addEventListener("pointerleave", () => { hovered = -1; byId("tip").hidden = true; redraw(); });
canvas.addEventListener("dblclick", event => zoomTo(spanAt(event.offsetX, event.offsetY)));
view.addEventListener("scroll", redraw);

// -- choosing the visible part ---------------------------------------------------------------------------------------

// After a change of the drawn or faded spans: a span that is no longer visible does not stay selected.
function update() {
  arrange();
  hovered = -1;
  byId("tip").hidden = true;
  if (selected >= 0 && (!isDrawn[selected] || fades(spans[selected]))) selected = -1;
  for (const line of table.tBodies[0].rows) line.hidden = !present.has(line.row[0] + " " + line.row[1]);
  byId("summary").textContent = (drawn === spans.length ? "" : `${drawn.toLocaleString("en")} of `)
    + `${spans.length.toLocaleString("en")} spans of ${data.threads.length} threads in ${say(length)}`;
  sayDetails();
}

function filter() {
  words = byId("filter").value.toLowerCase().split(/\s+/).filter(word => word);
  view.scrollTop = 0;
  update();
}

function bringOut(what) {
  brought = what === brought ? null : what;
  for (const button of byId("outcomes").children) button.setAttribute("aria-pressed", button.outcome === brought);
  update();
}

// -- the table -------------------------------------------------------------------------------------------------------

// A row is an array, too: name, site, count; sum, mean, 99th percentile and maximum of waits and of holds; outcomes.
const COLUMNS = ["lock, call site", "count", "sum", "mean", "p99", "max", "sum", "mean", "p99", "max"];
const GROUPS = ["", "", ...Array(4).fill("waited"), ...Array(4).fill("held")];
let sorting = {column: 2, ascending: false};

function choose(row) {
  chosen = row && !(chosen && row[0] === chosen[0] && row[1] === chosen[1]) ? [row[0], row[1]] : null;
  for (const line of table.tBodies[0].rows) markLine(line);
  update();
}

function markLine(line) {
  const mine = chosen !== null && line.row[0] === chosen[0] && line.row[1] === chosen[1];
  line.classList.toggle("chosen", mine);
  line.querySelector("button").setAttribute("aria-pressed", mine);
}

// The details of a line: above all, the holders of the lock during its waits.
function describeRow(row) {
  const [name, site, count, waited, , , longest, held, , , most, ended] = row, culprits = new Map();
  spans.forEach((span, place) => {
    if (span[KIND] !== WAIT || span[NAME] !== name || span[SITE] !== site) return;
    for (const [hold, overlap] of inTheWay(place)) {
      const key = spans[hold][NAME] + " " + spans[hold][SITE], known = culprits.get(key) ?? [spans[hold], 0];
      culprits.set(key, [known[0], known[1] + overlap]);
    }
  });
  const lines = [`${data.names[name]}, ${data.sites[site]}`,
    `${count} times; waited ${say(waited)} in all, ${say(longest)} at most; held or ran ${say(held)} in all, ${say(most)} at most`];
  if (ended) lines.push(ended);
  for (const [hold, sum] of [...culprits.values()].sort((one, other) => other[1] - one[1]).slice(0, MOST))
    lines.push([`waited ${say(sum)} while it was held by ${data.sites[hold[SITE]]}`,
      () => choose(data.table.find(row => row[0] === hold[NAME] && row[1] === hold[SITE]))]);
  return lines;
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
    button.dataset.group = GROUPS[column];
    button.onclick = () => {
      sorting = {column, ascending: sorting.column === column ? !sorting.ascending : column === 0};
      fillTable();
      update();
    };
  });
  return thead;
}

function fillTable() {
  const table = document.querySelector("table"), body = table.tBodies[0];
  const value = row => sorting.column ? row[sorting.column + 1] : (data.names[row[0]] + "\n" + data.sites[row[1]]).toLowerCase();
  const sorted = [...data.table].sort((one, other) => value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0);
  if (!sorting.ascending) sorted.reverse();
  table.querySelectorAll("thead tr:last-child th").forEach((cell, column) => {
    if (column === sorting.column) cell.setAttribute("aria-sort", sorting.ascending ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
  body.replaceChildren(...sorted.map(row => {
    const line = document.createElement("tr"), cell = line.insertCell(), button = document.createElement("button");
    line.row = row;
    line.onclick = () => choose(row);
    button.textContent = data.names[row[0]];
    button.style.setProperty("--color", color(row[0]));
    for (const [text, kind] of [[data.sites[row[1]], ""], [row[11], "bad"]]) {
      const small = document.createElement("small");
      small.textContent = text;
      small.className = kind;
      if (text) button.append(small);
    }
    cell.append(button);
    row.slice(2, 11).forEach((number, place) => {
      const cell = line.insertCell();
      cell.textContent = place ? say(number) : number.toLocaleString("en");
      cell.dataset.label = [GROUPS[place + 1], COLUMNS[place + 1]].join(" ").trim();
      if (place === 1 || place === 5) cell.className = "first";
    });
    markLine(line);
    return line;
  }));
}

// A row is: name; number of locks, takings, waits; sum, mean, 99th percentile and maximum of waits and of holds.
function tableOfUses() {
  const table = document.createElement("table"), groups = table.createTHead().insertRow(), names = table.tHead.insertRow();
  const columns = ["lock", "locks", "taken", "waited", ...COLUMNS.slice(2)], parts = [...Array(4).fill(""), ...GROUPS.slice(2)];
  table.className = "uses";
  table.createCaption().textContent = "The most contended locks, by where they were made.";
  for (const [text, width] of [["", 4], ["waited", 4], ["held", 4]]) {
    const cell = groups.appendChild(document.createElement("th"));
    cell.colSpan = width;
    cell.className = text ? "group first" : "group";
    cell.textContent = text;
  }
  for (const text of columns) names.appendChild(document.createElement("th")).textContent = text;
  const body = table.createTBody();
  for (const row of data.uses) {
    const line = body.insertRow();
    row.forEach((value, place) => {
      const cell = line.insertCell();
      cell.textContent = place === 0 ? value : place < 4 ? value.toLocaleString("en") : say(value);
      cell.dataset.label = [parts[place], columns[place]].join(" ").trim();
      if (place === 4 || place === 8) cell.className = "first";
    });
  }
  return table;
}

// -- beginning -------------------------------------------------------------------------------------------------------

byId("about").textContent = data.about;
byId("note").textContent = data.note;
data.kinds.forEach((kind, number) => {
  if (!spans.some(span => span[KIND] === number)) return;
  const button = byId("legend").appendChild(document.createElement("button"));
  button.textContent = kind;
  button.className = kind;
  button.setAttribute("aria-pressed", true);
  button.onclick = () => {
    shown[number] = !shown[number];
    button.setAttribute("aria-pressed", shown[number]);
    update();
  };
});
const counts = new Map();
for (const span of spans) if (outcome(span)) counts.set(sort(span), (counts.get(sort(span)) ?? 0) + 1);
for (const [what, count] of counts) {
  const button = byId("outcomes").appendChild(document.createElement("button"));
  button.textContent = `${count} ${what}`;
  button.outcome = what;
  button.setAttribute("aria-pressed", false);
  button.onclick = () => bringOut(what);
}
byId("filter").oninput = filter;
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
if (data.uses.length) byId("right").append(tableOfUses());
takeColors();
fillTable();
update();
fit();
new ResizeObserver(resize).observe(view);
resize();
