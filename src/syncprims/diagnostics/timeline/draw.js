"use strict";
// Drawing the visible part of the recording, from `from` to `to`.

const data = /* the recording */ null;

// A span is an array; these are the places in it. Times are in microseconds.
const THREAD = 0, DEPTH = 1, KIND = 2, NAME = 3, SITE = 4, START = 5, LASTS = 6, QUEUED = 7, OUTCOME = 8, HOLDER = 9;
const RULER = 26, GAP = 10;
const BAR = data.threads.reduce((rows, thread) => rows + thread.depth, 0) <= 14 ? 28 : 18;
const NARROWEST = 0.5;  // µs: no deeper zoom than this for the whole width
const WAIT = data.kinds.indexOf("wait");

const spans = data.spans, byId = id => document.getElementById(id);
const canvas = byId("timeline"), pen = canvas.getContext("2d"), view = byId("view");
const length = spans.reduce((latest, span) => Math.max(latest, span[START] + span[LASTS]), 1);
const end = span => span[START] + span[LASTS];
const outcome = span => data.outcomes[span[OUTCOME]];
// The outcome of a span; for a failure, without the error's type.
const sort = span => outcome(span).split(":")[0];
const isBad = span => sort(span) === "failed" || sort(span) === "deadlock refused";

let from = 0, to = length, width = 0, tall = 0, labels = 150, colors = {}, hovered = -1, selected = -1, asked = false;

// -- the visible part ------------------------------------------------------------------------------------------------

const shown = data.kinds.map(() => true);
let words = [], chosen = null, brought = null;

// The rows of a visible thread are drawn one below the other, from its top on. Each row has three lists of spans: all
// drawn spans, those that are not faded, and those with a mark at the end. They are in order and don't overlap, so both
// starts and ends ascend.
let rows = [], height = RULER, drawn = 0, present = new Set();
const isDrawn = new Uint8Array(spans.length);

// Whether a span has every word in one of its texts.
function finder() {
  const texts = {[NAME]: data.names, [SITE]: data.sites, [THREAD]: data.threads.map(thread => thread.name),
    [KIND]: data.kinds, [OUTCOME]: data.outcomes};
  const found = words.map(word => Object.entries(texts).map(([field, all]) =>
    [field, all.map(text => text.toLowerCase().includes(word))]));
  return span => found.every(fields => fields.some(([field, all]) => all[span[field]]));
}

const fades = span => chosen !== null && (span[NAME] !== chosen[0] || span[SITE] !== chosen[1])
  || brought !== null && sort(span) !== brought;

function arrange() {
  const matches = finder(), of = data.threads.map(thread => Array.from({length: thread.depth}, () => [[], [], []]));
  const seen = data.threads.map(() => !words.length);
  drawn = 0;
  present = new Set();
  spans.forEach((span, place) => {
    isDrawn[place] = shown[span[KIND]] && matches(span);
    if (!isDrawn[place]) return;
    const [all, bright, marked] = of[span[THREAD]][span[DEPTH]];
    all.push(place);
    if (!fades(span)) bright.push(place);
    if (outcome(span) && outcome(span) !== "not over") marked.push(place);
    seen[span[THREAD]] = true;
    present.add(span[NAME] + " " + span[SITE]);
    drawn++;
  });
  rows = [];
  height = RULER;
  data.threads.forEach((thread, number) => {
    rows.push({top: height, name: thread.name, lanes: seen[number] ? of[number] : []});
    if (seen[number]) height += Math.max(1, thread.depth) * BAR + GAP;
  });
  byId("spacer").style.height = Math.max(0, height - tall) + "px";
  redraw();
}

// -- saying ----------------------------------------------------------------------------------------------------------

function say(micros) {
  if (micros === 0) return "0";
  for (const [unit, size] of [["s", 1e6], ["ms", 1e3], ["µs", 1]])
    if (micros >= size || unit === "µs") {
      const value = micros / size;
      return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0) + " " + unit;
    }
}

// The holders during a span's wait, the longest first: pairs of a span and how long it was in the way.
function inTheWay(place) {
  const wait = spans[place], [list, first, after] = data.behind[place] ?? [0, 0, 0];
  return (data.holds[list] ?? []).slice(first, after).map(hold =>
    [hold, Math.min(end(wait), end(spans[hold])) - Math.max(wait[START], spans[hold][START])])
    .filter(([hold, overlap]) => overlap > 0 || !wait[LASTS]).sort((one, other) => other[1] - one[1]);
}

const MOST = 5;

// Lines that describe a span; some are pairs of a text and a function for a click on it.
function describe(place) {
  const span = spans[place], thread = data.threads[span[THREAD]];
  const lines = [`${data.kinds[span[KIND]]} ${data.names[span[NAME]]}: ${say(span[LASTS])}`,
    `${thread.name}${thread.ident === null ? "" : ` (ident ${thread.ident})`}, from ${say(span[START])}`,
    data.sites[span[SITE]]];
  if (span[QUEUED]) lines.push(`after ${say(span[QUEUED])} in the queue`);
  if (outcome(span)) lines.push(outcome(span));
  if (span[KIND] === WAIT) {
    const all = inTheWay(place);
    for (const [hold, overlap] of all.slice(0, MOST))
      lines.push([`held by ${data.threads[spans[hold][THREAD]].name}${overlap ? ` for ${say(overlap)} of it` : ""}, `
        + data.sites[spans[hold][SITE]], () => select(hold)]);
    if (all.length > MOST) lines.push(`and by ${all.length - MOST} others for less`);
    if (!all.length && span[HOLDER] >= 0) lines.push(`held by ${data.holders[span[HOLDER]]} when it began`);
  }
  return lines;
}

function fill(element, lines) {
  element.replaceChildren(...lines.map((line, number) => {
    const part = document.createElement(number ? "div" : "strong");
    const [text, act] = typeof line === "string" ? [line, null] : line;
    if (act) {
      const button = part.appendChild(document.createElement("button"));
      button.textContent = text;
      button.onclick = act;
    } else part.textContent = text;
    return part;
  }));
}

// -- drawing ---------------------------------------------------------------------------------------------------------

const x = time => labels + (time - from) / (to - from) * (width - labels);
const time = left => from + (left - labels) / (width - labels) * (to - from);
const middle = span => rows[span[THREAD]].top + span[DEPTH] * BAR + BAR / 2;

// The first place in a row whose span meets a condition that all later ones meet too.
function first(lane, holds) {
  let low = 0, high = lane.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(spans[lane[middle]])) high = middle; else low = middle + 1;
  }
  return low;
}

// Calls `each` for the spans of a row in the window. Spans on the same pixel are skipped, so that a row costs no
// more than its pixels.
function along(lane, each) {
  const perPixel = (to - from) / (width - labels);
  let place = first(lane, span => end(span) > from);
  while (place < lane.length) {
    const span = spans[lane[place]], left = Math.max(labels, x(span[START]));
    if (span[START] > to) break;
    const wide = Math.max(1, Math.min(width, x(end(span))) - left);
    each(span, lane[place], left, wide);
    if (wide <= 1) {
      const next = time(left) + perPixel;
      place = Math.max(place + 1, first(lane, span => span[START] >= next));
    } else place++;
  }
}

// The locks have hues that are as far apart as possible; those with the longest waits get the first ones.
const color = name => colors.hues[name] ??=
  `oklch(${colors.light} ${colors.strength} ${(255 + name * 137.508) % 360})`;

function drawSpan(span, place, left, wide, top) {
  const waits = span[KIND] === WAIT;
  // A wait is a thinner bar with stripes: the two are distinct even without their colours.
  const inset = waits ? BAR * 0.28 : 1;
  pen.fillStyle = color(span[NAME]);
  pen.fillRect(left, top + inset, wide, BAR - 2 * inset);
  if (waits && wide > 3) {
    pen.fillStyle = colors.stripes;
    pen.fillRect(left, top + inset, wide, BAR - 2 * inset);
  }
  if (wide > 46 && !waits) {
    pen.fillStyle = colors.paper;
    pen.save();
    pen.beginPath();
    pen.rect(left + 3, top, wide - 6, BAR);
    pen.clip();
    pen.fillText(data.names[span[NAME]], left + 5, top + BAR / 2 + 0.5);
    pen.restore();
  }
}

// The end of a span with an unusual outcome: a line, and a flag if it failed.
function drawMark(span, left, wide, top) {
  const right = Math.min(left + wide, width);
  if (x(end(span)) > width + 1) return;
  pen.globalAlpha = fades(span) ? 0.3 : 1;
  pen.fillStyle = isBad(span) ? colors.bad : colors.ink;
  pen.fillRect(right - 1, top, 2, BAR);
  if (isBad(span)) {
    pen.beginPath();
    pen.moveTo(right + 1, top);
    pen.lineTo(right + 8, top + 4);
    pen.lineTo(right + 1, top + 8);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

function drawOutline(place, scroll) {
  if (place < 0 || !isDrawn[place]) return;
  const span = spans[place], left = Math.max(labels, x(span[START])), wide = Math.max(1, Math.min(width, x(end(span))) - left);
  if (end(span) < from || span[START] > to) return;
  pen.strokeStyle = place === selected ? colors.mark : colors.ink;
  pen.lineWidth = 2;
  pen.strokeRect(left, middle(span) - BAR / 2 + 1 - scroll, wide, BAR - 2);
}

function drawArrows(scroll) {
  const visible = data.arrows.filter(([giver, taker]) => {
    const gone = end(spans[giver]), come = spans[taker][START];
    return Math.max(gone, come) >= from && Math.min(gone, come) <= to;
  });
  const few = visible.length <= 400;
  pen.lineWidth = 1.2;
  for (const [giver, taker] of visible) {
    const near = [hovered, selected].some(place => place >= 0 && (place === giver || place === taker));
    if (!few && !near || !near && fades(spans[taker]) || !isDrawn[giver] || !isDrawn[taker]) continue;
    pen.strokeStyle = pen.fillStyle = near ? colors.mark : colors.faint;
    pen.globalAlpha = near ? 1 : 0.7;
    const startX = x(Math.min(end(spans[giver]), spans[taker][START])), endX = x(spans[taker][START]);
    const startY = middle(spans[giver]) - scroll, endY = middle(spans[taker]) - scroll, bend = Math.max(8, (endX - startX) / 2);
    pen.beginPath();
    pen.moveTo(startX, startY);
    pen.bezierCurveTo(startX + bend, startY, endX - bend, endY, endX, endY);
    pen.stroke();
    pen.beginPath();
    pen.moveTo(endX + 1, endY);
    pen.lineTo(endX - 6, endY - 3.5);
    pen.lineTo(endX - 6, endY + 3.5);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

function drawRuler() {
  pen.fillStyle = colors.panel;
  pen.fillRect(0, 0, width, RULER - 2);
  const least = (to - from) / (width - labels) * 90, size = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map(factor => factor * size).find(wide => wide >= least);
  pen.strokeStyle = colors.line;
  pen.fillStyle = colors.faint;
  pen.lineWidth = 1;
  for (let number = Math.ceil(from / step); number * step <= to; number++) {
    const at = Math.round(x(number * step)) + 0.5;
    pen.beginPath();
    pen.moveTo(at, RULER - 8);
    pen.lineTo(at, tall);
    pen.stroke();
    if (at < width - 50) pen.fillText(mark(number * step, step), at + 4, 11);
  }
}

// A time on the ruler, in the unit and with the digits that distinguish it from the next.
function mark(micros, step) {
  const [unit, size] = step >= 1e6 ? ["s", 1e6] : step >= 1e3 || to >= 1e4 ? ["ms", 1e3] : ["µs", 1];
  return (micros / size).toFixed(Math.max(0, -Math.floor(Math.log10(step / size) + 1e-9))) + " " + unit;
}

function draw() {
  asked = false;
  const scale = window.devicePixelRatio || 1, scroll = view.scrollTop, faded = chosen !== null || brought !== null;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = colors.paper;
  pen.fillRect(0, 0, width, tall);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  drawRuler();
  pen.save();
  pen.beginPath();
  pen.rect(labels, RULER, width - labels, tall - RULER);
  pen.clip();
  const bars = [];
  for (const {top, lanes} of rows) lanes.forEach((lane, depth) => {
    const at = top + depth * BAR - scroll;
    if (at > -BAR && at < tall) bars.push([lane, at]);
  });
  // Faded spans come first, so that they cover no others.
  pen.globalAlpha = faded ? 0.2 : 1;
  for (const [lane, at] of bars) along(lane[0], (span, place, left, wide) => drawSpan(span, place, left, wide, at));
  pen.globalAlpha = 1;
  if (faded)
    for (const [lane, at] of bars) along(lane[1], (span, place, left, wide) => drawSpan(span, place, left, wide, at));
  drawArrows(scroll);
  for (const [lane, at] of bars) along(lane[2], (span, place, left, wide) => drawMark(span, left, wide, at));
  drawOutline(hovered, scroll);
  drawOutline(selected, scroll);
  pen.restore();
  drawLabels(scroll);
  if (!drawn) {
    pen.fillStyle = colors.faint;
    pen.fillText(spans.length ? "Nothing of what was recorded matches."
      : "Nothing was recorded: no lock was taken and nothing waited for.", labels + 20, 60);
  }
}

function drawLabels(scroll) {
  pen.save();
  pen.beginPath();
  pen.rect(0, RULER, width, tall - RULER);
  pen.clip();
  for (const {top, name, lanes} of rows) {
    const at = top - scroll;
    if (!lanes.length || at < -height || at > tall) continue;
    pen.strokeStyle = colors.line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, Math.round(at - GAP / 2) + 0.5);
    pen.lineTo(width, Math.round(at - GAP / 2) + 0.5);
    pen.stroke();
    pen.fillStyle = colors.ink;
    let text = name;
    while (text.length > 1 && pen.measureText(text + "…").width > labels - 18) text = text.slice(0, -1);
    pen.fillText(text === name ? name : text + "…", 10, at + BAR / 2);
  }
  pen.restore();
}

function redraw() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(draw);
  }
}

function resize() {
  const scale = window.devicePixelRatio || 1;
  width = view.clientWidth;
  tall = view.clientHeight;
  labels = Math.min(150, Math.round(width / 4));
  canvas.width = width * scale;
  canvas.height = tall * scale;
  canvas.style.width = width + "px";
  canvas.style.height = tall + "px";
  byId("spacer").style.height = Math.max(0, height - tall) + "px";
  draw();  // at once: a canvas is blank after a change of its size
}

function takeColors() {
  const style = getComputedStyle(document.documentElement);
  colors = {hues: []};
  for (const name of ["paper", "panel", "ink", "faint", "line", "mark", "bad", "light", "strength"])
    colors[name] = style.getPropertyValue("--" + name).trim();
  const tile = document.createElement("canvas"), stripe = tile.getContext("2d");
  tile.width = tile.height = 6;
  stripe.strokeStyle = colors.paper;
  stripe.lineWidth = 2;
  for (const shift of [-6, 0, 6]) {
    stripe.moveTo(shift - 1, 7);
    stripe.lineTo(shift + 7, -1);
  }
  stripe.stroke();
  colors.stripes = pen.createPattern(tile, "repeat");
  for (const button of document.querySelectorAll("td button"))
    button.style.setProperty("--color", color(button.closest("tr").row[0]));
  redraw();
}
