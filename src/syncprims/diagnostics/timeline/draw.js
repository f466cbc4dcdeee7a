"use strict";
// Drawing: what is seen of the recording, from `from` to `to`.

const data = /* the recording */ null;

// A span is an array; these are the places in it. Times are in microseconds.
const THREAD = 0, DEPTH = 1, KIND = 2, NAME = 3, SITE = 4, START = 5, LASTS = 6, QUEUED = 7, OUTCOME = 8;
const RULER = 26, GAP = 10, LABELS = 150;
const BAR = data.threads.reduce((rows, thread) => rows + thread.depth, 0) <= 14 ? 28 : 18;
const NARROWEST = 0.5;  // µs: no deeper zoom than this for the whole width

const spans = data.spans, byId = id => document.getElementById(id);
const canvas = byId("timeline"), pen = canvas.getContext("2d"), view = byId("view");
const shown = data.kinds.map(() => true);
const length = spans.reduce((latest, span) => Math.max(latest, span[START] + span[LASTS]), 1);

// Where each thread's rows begin, and for each row its spans in order: they don't overlap, so both ends ascend.
const tops = [];
let height = RULER;
for (const thread of data.threads) {
  tops.push(height);
  height += Math.max(1, thread.depth) * BAR + GAP;
}
const lanes = data.threads.map(thread => Array.from({length: thread.depth}, () => []));
spans.forEach((span, place) => lanes[span[THREAD]][span[DEPTH]].push(place));

let from = 0, to = length, width = 0, tall = 0, colors = {}, hovered = -1, selected = -1, chosen = null, asked = false;

// -- saying ----------------------------------------------------------------------------------------------------------

function say(micros) {
  if (micros === 0) return "0";
  for (const [unit, size] of [["s", 1e6], ["ms", 1e3], ["µs", 1]])
    if (micros >= size || unit === "µs") {
      const value = micros / size;
      return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0) + " " + unit;
    }
}

function describe(span) {
  const lines = [`${data.kinds[span[KIND]]} ${data.names[span[NAME]]}: ${say(span[LASTS])}`,
    `${data.threads[span[THREAD]].name}, from ${say(span[START])}`, data.sites[span[SITE]]];
  if (span[QUEUED]) lines.push(`after ${say(span[QUEUED])} in the queue`);
  if (span[OUTCOME]) lines.push(span[OUTCOME]);
  return lines;
}

function fill(element, lines) {
  element.replaceChildren(...lines.map((line, number) => {
    const part = document.createElement(number ? "div" : "strong");
    part.textContent = line;
    return part;
  }));
}

// -- drawing ---------------------------------------------------------------------------------------------------------

const x = time => LABELS + (time - from) / (to - from) * (width - LABELS);
const time = left => from + (left - LABELS) / (width - LABELS) * (to - from);

// The first place in a row whose span fulfils what holds for all later ones too.
function first(lane, holds) {
  let low = 0, high = lane.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(spans[lane[middle]])) high = middle; else low = middle + 1;
  }
  return low;
}

function fades(span) {
  return chosen !== null && (span[NAME] !== chosen[0] || (chosen[1] !== null && span[SITE] !== chosen[1]));
}

function drawLane(lane, top) {
  const perPixel = (to - from) / (width - LABELS);
  let place = first(lane, span => span[START] + span[LASTS] > from);
  while (place < lane.length) {
    const span = spans[lane[place]], left = Math.max(LABELS, x(span[START]));
    if (span[START] > to) break;
    const wide = Math.max(1, Math.min(width, x(span[START] + span[LASTS])) - left);
    if (shown[span[KIND]]) drawSpan(span, lane[place], left, wide, top);
    // What would be drawn on the same pixel is passed over, so that a row costs no more than its pixels.
    if (wide <= 1) {
      const next = time(left) + perPixel;
      place = Math.max(place + 1, first(lane, span => span[START] >= next));
    } else place++;
  }
}

function drawSpan(span, place, left, wide, top) {
  const waits = data.kinds[span[KIND]] === "wait";
  pen.globalAlpha = fades(span) ? 0.2 : waits ? 0.75 : 1;
  pen.fillStyle = colors[data.kinds[span[KIND]]];
  // A wait is a thinner bar: the two are told apart without their colours, too.
  const inset = waits ? BAR * 0.28 : 1;
  pen.fillRect(left, top + inset, wide, BAR - 2 * inset);
  if (span[OUTCOME] === "gave up" && wide > 6) {
    pen.fillStyle = colors.ink;
    pen.fillRect(left + wide - 2, top + 2, 2, BAR - 4);
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
  pen.globalAlpha = 1;
  if (place === hovered || place === selected) {
    pen.strokeStyle = place === selected ? colors.mark : colors.ink;
    pen.lineWidth = 2;
    pen.strokeRect(left, top + 1, wide, BAR - 2);
  }
}

function drawArrows(scroll) {
  const visible = data.arrows.filter(([giver, taker]) => {
    const gone = spans[giver][START] + spans[giver][LASTS], come = spans[taker][START];
    return Math.max(gone, come) >= from && Math.min(gone, come) <= to && shown[spans[taker][KIND]];
  });
  const few = visible.length <= 400;
  pen.lineWidth = 1.2;
  for (const [giver, taker] of visible) {
    const near = [hovered, selected].some(place => place >= 0 && (place === giver || place === taker));
    if (!few && !near || fades(spans[taker])) continue;
    pen.strokeStyle = pen.fillStyle = near ? colors.mark : colors.faint;
    pen.globalAlpha = near ? 1 : 0.7;
    const startX = x(Math.min(spans[giver][START] + spans[giver][LASTS], spans[taker][START])), endX = x(spans[taker][START]);
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

const middle = span => tops[span[THREAD]] + span[DEPTH] * BAR + BAR / 2;

function drawRuler() {
  pen.fillStyle = colors.panel;
  pen.fillRect(0, 0, width, RULER - 2);
  const least = (to - from) / (width - LABELS) * 90, size = 10 ** Math.floor(Math.log10(least));
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

// A time on the ruler, in the unit and with the digits that tell it from the next.
function mark(micros, step) {
  const [unit, size] = step >= 1e6 ? ["s", 1e6] : step >= 1e3 || to >= 1e4 ? ["ms", 1e3] : ["µs", 1];
  return (micros / size).toFixed(Math.max(0, -Math.floor(Math.log10(step / size) + 1e-9))) + " " + unit;
}

function draw() {
  asked = false;
  const scale = window.devicePixelRatio || 1, scroll = view.scrollTop;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = colors.paper;
  pen.fillRect(0, 0, width, tall);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  drawRuler();
  pen.save();
  pen.beginPath();
  pen.rect(LABELS, RULER, width - LABELS, tall - RULER);
  pen.clip();
  lanes.forEach((rows, thread) => rows.forEach((lane, depth) => {
    const top = tops[thread] + depth * BAR - scroll;
    if (top > -BAR && top < tall) drawLane(lane, top);
  }));
  drawArrows(scroll);
  pen.restore();
  drawLabels(scroll);
  if (!spans.length) {
    pen.fillStyle = colors.faint;
    pen.fillText("Nothing was recorded: no lock was taken and nothing waited for meanwhile.", LABELS + 20, 60);
  }
}

function drawLabels(scroll) {
  pen.save();
  pen.beginPath();
  pen.rect(0, RULER, width, tall - RULER);
  pen.clip();
  data.threads.forEach((thread, number) => {
    const top = tops[number] - scroll;
    pen.strokeStyle = colors.line;
    pen.beginPath();
    pen.moveTo(0, Math.round(top - GAP / 2) + 0.5);
    pen.lineTo(width, Math.round(top - GAP / 2) + 0.5);
    pen.stroke();
    pen.fillStyle = colors.ink;
    let name = thread.name;
    while (name.length > 1 && pen.measureText(name + "…").width > LABELS - 18) name = name.slice(0, -1);
    pen.fillText(name === thread.name ? name : name + "…", 10, top + BAR / 2);
  });
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
  canvas.width = width * scale;
  canvas.height = tall * scale;
  canvas.style.width = width + "px";
  canvas.style.height = tall + "px";
  byId("spacer").style.height = Math.max(0, height - tall) + "px";
  draw();  // at once: a canvas that gets another size is blank
}

function takeColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "ink", "faint", "line", "mark", ...data.kinds])
    colors[name] = style.getPropertyValue("--" + name).trim();
  redraw();
}
