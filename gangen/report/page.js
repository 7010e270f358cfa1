"use strict";
// Draws the curves, moves through the sample grids and filters the settings. Text only ever enters the page
// as textContent, so no name from a log can become markup.

const data = JSON.parse(document.getElementById("data").textContent);
const view = { from: 0, to: Math.max(1, data.total), smoothing: 0.6, at: null, shown: null };
const plots = [];
const SVG = "http://www.w3.org/2000/svg"; // a name, not an address that is fetched
const HEIGHT = 210, LEFT = 54, RIGHT = 10, TOP = 20, LANE = 6, FOOT = 18;

// --- small helpers -----------------------------------------------------------------------------------------

function make(parent, name, attributes = {}, text = null) {
  const made = document.createElementNS(name === "svg" ? SVG : parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

function readable(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e6)) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${+digits}e${+power}`.replaceAll("-", "−");
  }
  return (size >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4))).replace("-", "−");
}

/** Round numbers in [low, high], about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step + 0); // + 0 makes 0 of −0
  return found;
}

/** Index of the last x that is not past `value`, or -1. */
function before(xs, value) {
  let low = 0, high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= value) low = middle + 1; else high = middle;
  }
  return low - 1;
}

/** Exponential moving average without the pull of its start; begins anew after a gap. */
function smooth(points, weight) {
  let sum = 0, mass = 0;
  const y = points.y.map((value) => {
    if (value === null) { sum = mass = 0; return null; }
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
  return { x: points.x, y };
}

function phaseAt(total) {
  const begun = data.phases.filter((phase) => phase.start < total);
  return begun.length ? begun[begun.length - 1] : data.phases[0];
}

// --- plots -------------------------------------------------------------------------------------------------

class Plot {
  constructor(parent, { title, curves }) {
    this.curves = curves.map((curve, index) => ({ ...curve, tone: curve.tone ?? index % 8, on: true, legend: null }));
    this.few = curves.every((curve) => curve.x.length <= 60);
    this.log = false;
    const card = make(parent, "div", { class: "plot" });
    const head = make(card, "div", { class: "head" });
    make(head, "b", {}, title);
    if (curves.every((curve) => curve.y.every((value) => value === null || value > 0))) {
      const button = make(head, "button", { type: "button", "aria-pressed": "false" }, "log");
      button.addEventListener("click", () => {
        this.log = !this.log;
        button.setAttribute("aria-pressed", this.log);
        this.draw();
      });
    }
    this.svg = make(card, "svg", { height: HEIGHT, role: "img", "aria-label": `${title} over the steps` });
    const legend = make(card, "div", { class: "legend" });
    for (const curve of this.curves) {
      const entry = make(legend, "button", { type: "button", class: `t${curve.tone}`, "aria-pressed": "true" }, curve.name);
      curve.legend = make(entry, "i");
      entry.addEventListener("click", () => {
        curve.on = !curve.on;
        entry.setAttribute("aria-pressed", curve.on);
        this.draw();
      });
    }
    this.listen();
  }

  x(total) { return LEFT + ((total - view.from) / (view.to - view.from)) * this.width; }
  total(x) { return view.from + ((x - LEFT) / this.width) * (view.to - view.from); }
  y(value) {
    const [low, high, at] = this.log ? [this.low, this.high, value].map(Math.log10) : [this.low, this.high, value];
    return this.bottom - ((at - low) / (high - low)) * (this.bottom - TOP);
  }

  fit() {
    const seen = [];
    for (const curve of this.curves.filter((each) => each.on))
      curve.y.forEach((value, i) => {
        if (value !== null && curve.x[i] >= view.from && curve.x[i] <= view.to) seen.push(value);
      });
    let low = seen.reduce((a, b) => Math.min(a, b), Infinity), high = seen.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!seen.length) [low, high] = this.log ? [0.1, 1] : [0, 1];
    const margin = this.log ? Math.max(1.05, (high / low) ** 0.04) : (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
    [this.low, this.high] = this.log ? [low / margin, high * margin] : [low - margin, high + margin];
    if (!this.log && low >= 0 && this.low < 0) this.low = 0;
  }

  draw() {
    this.width = Math.max(60, this.svg.clientWidth - LEFT - RIGHT);
    this.bottom = HEIGHT - FOOT - 4 - data.lanes.length * (LANE + 2);
    this.fit();
    this.svg.replaceChildren();
    this.drawPhases();
    this.drawAxes();
    const clip = `clip${plots.indexOf(this)}`;
    make(make(this.svg, "clipPath", { id: clip }), "rect", { x: LEFT, y: TOP - 2, width: this.width, height: this.bottom - TOP + 4 });
    const inside = make(this.svg, "g", { "clip-path": `url(#${clip})` });
    for (const curve of this.curves.filter((each) => each.on)) this.drawCurve(inside, curve);
    this.drawLanes();
    this.marks = make(this.svg, "g");
    this.mark();
  }

  drawPhases() {
    data.phases.forEach((phase, index) => {
      const left = Math.max(LEFT, this.x(phase.start)), right = Math.min(LEFT + this.width, this.x(phase.end));
      if (right <= left) return;
      if (index % 2 === 0) make(this.svg, "rect", { class: "band", x: left, y: 0, width: right - left, height: this.bottom });
      const room = Math.floor((right - left - 8) / 6);
      const name = phase.name.length <= room ? phase.name : phase.name.slice(0, Math.max(0, room - 1)) + "…";
      if (room >= 4) make(this.svg, "text", { x: left + 5, y: 13 }, name);
      make(make(this.svg, "rect", { x: left, y: 0, width: right - left, height: TOP, fill: "transparent" }), "title", {}, phase.name);
    });
  }

  drawAxes() {
    const [low, high] = this.log ? [Math.log10(this.low), Math.log10(this.high)] : [this.low, this.high];
    const decades = this.log && high - low > 1.2;
    const values = decades ? ticks(Math.ceil(low), Math.floor(high), 4).filter(Number.isInteger).map((power) => 10 ** power)
      : ticks(this.low, this.high, 4).filter((value) => !this.log || value > 0);
    for (const value of values) {
      const y = this.y(value);
      if (y < TOP - 3 || y > this.bottom + 1) continue;
      make(this.svg, "line", { class: "tick", x1: LEFT, x2: LEFT + this.width, y1: y, y2: y });
      make(this.svg, "text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, readable(value));
    }
    make(this.svg, "line", { class: "edge", x1: LEFT, x2: LEFT + this.width, y1: this.bottom, y2: this.bottom });
    for (const total of ticks(view.from, view.to, Math.max(2, this.width / 90))) {
      const x = this.x(total), anchor = x > LEFT + this.width - 20 ? "end" : "middle";
      make(this.svg, "text", { x, y: HEIGHT - 4, "text-anchor": anchor }, total.toLocaleString("en"));
    }
  }

  drawCurve(parent, curve) {
    const tone = `t${curve.tone}`, few = this.few, smoothed = view.smoothing > 0 && !few && !curve.dashed;
    const path = (points, kind) => {
      let drawn = "", pen = false;
      points.y.forEach((value, i) => {
        if (value !== null) drawn += `${pen ? "L" : "M"}${this.x(points.x[i]).toFixed(1)} ${this.y(value).toFixed(1)}`;
        pen = value !== null;
      });
      make(parent, "path", { class: `curve ${tone} ${kind}`, d: drawn });
    };
    path(curve, curve.dashed ? "dashed" : smoothed ? "faint" : "");
    if (smoothed) path(smooth(curve.mean ?? curve, view.smoothing), "");
    curve.y.forEach((value, i) => {
      const alone = value !== null && (curve.y[i - 1] ?? null) === null && (curve.y[i + 1] ?? null) === null;
      if (value !== null && !curve.dashed && (few || alone))
        make(parent, "circle", { class: `dot ${tone}`, cx: this.x(curve.x[i]), cy: this.y(value), r: few ? 2.4 : 1.5 });
    });
  }

  drawLanes() {
    data.lanes.forEach((lane, index) => {
      const y = this.bottom + 4 + index * (LANE + 2);
      for (const [start, end, share] of lane.spans) {
        const left = Math.max(LEFT, this.x(start)), right = Math.min(LEFT + this.width, this.x(end));
        if (right > left) make(this.svg, "rect", { class: `lane t${index % 8}`, x: left, y, width: right - left, height: LANE, opacity: share });
      }
      make(make(this.svg, "rect", { x: LEFT, y, width: this.width, height: LANE, fill: "transparent" }), "title", {}, `${lane.name} learns`);
    });
  }

  /** Show the pointer, the shown sample and the best validation, and read the values off at the pointer. */
  mark() {
    this.marks.replaceChildren();
    const line = (total, kind, title) => {
      const x = this.x(total);
      if (total === null || x < LEFT || x > LEFT + this.width) return;
      make(make(this.marks, "line", { class: kind, x1: x, x2: x, y1: TOP, y2: this.bottom }), "title", {}, title);
    };
    line(data.best, "best", "best validation");
    line(view.shown, "shown", "the samples that are shown");
    line(view.at, "cross", "");
    if (view.drag) {
      const [left, right] = view.drag.map((total) => this.x(total)).sort((a, b) => a - b);
      make(this.marks, "rect", { class: "drag", x: left, y: TOP, width: right - left, height: this.bottom - TOP });
    }
    if (view.at !== null) {
      const x = this.x(view.at), right = x > LEFT + this.width - 120;
      make(this.marks, "text", { x: x + (right ? -5 : 5), y: TOP + 10, "text-anchor": right ? "end" : "start" }, `step ${Math.round(view.at).toLocaleString("en")}`);
    }
    for (const curve of this.curves) curve.legend.textContent = readable(this.value(curve));
  }

  /** The value nearest before the pointer within its phase, or the newest without a pointer; null in a gap. */
  value(curve) {
    if (view.at === null) return curve.y.findLast((value) => value !== null) ?? null;
    const index = before(curve.x, view.at);
    return index < 0 ? null : curve.y[index];
  }

  listen() {
    let pressed = null;
    const at = (event) => {
      const x = event.clientX - this.svg.getBoundingClientRect().left;
      return Math.min(view.to, Math.max(view.from, this.total(x)));
    };
    this.svg.addEventListener("pointerdown", (event) => { pressed = event.clientX; view.drag = [at(event), at(event)]; });
    this.svg.addEventListener("pointermove", (event) => {
      view.at = at(event);
      if (pressed !== null) view.drag[1] = view.at;
      plots.forEach((plot) => plot.mark());
    });
    this.svg.addEventListener("pointerup", (event) => {
      const [from, to] = (view.drag ?? [0, 0]).slice().sort((a, b) => a - b);
      const dragged = pressed !== null && Math.abs(event.clientX - pressed) > 4;
      pressed = null;
      view.drag = null;
      if (dragged && to - from >= 2) zoom(from, to);
      else showNearest(at(event));
    });
    this.svg.addEventListener("pointerleave", () => {
      pressed = null;
      view.drag = view.at = null;
      plots.forEach((plot) => plot.mark());
    });
    this.svg.addEventListener("dblclick", () => zoom(0, Math.max(1, data.total)));
  }
}

function zoom(from, to) {
  Object.assign(view, { from, to });
  plots.forEach((plot) => plot.draw());
}

function drawCurves() {
  const place = document.getElementById("plots");
  place.replaceChildren();
  for (const group of data.groups) {
    make(place, "h3", {}, group.title);
    const cards = make(place, "div", { class: "group" });
    for (const plot of group.plots) plots.push(new Plot(cards, plot));
  }
  const names = document.getElementById("lane-names");
  data.lanes.forEach((lane, index) => make(make(names, "span", { class: `share t${index % 8}` }), "i", {}, `${lane.name} learns`));
  const slider = document.getElementById("smoothing");
  slider.addEventListener("input", () => {
    view.smoothing = Number(slider.value);
    document.getElementById("smoothing-value").textContent = view.smoothing.toFixed(2);
    plots.forEach((plot) => plot.draw());
  });
  if (!plots.length) make(place, "p", { class: "muted" }, "No numbers have been logged yet.");
  new ResizeObserver(() => plots.forEach((plot) => plot.draw())).observe(place);
  plots.forEach((plot) => plot.draw());
}

// --- samples -----------------------------------------------------------------------------------------------

const grids = [...document.querySelectorAll(".samples figure[data-total]")];
const totals = grids.map((grid) => Number(grid.dataset.total));

function show(index) {
  if (!grids.length) return;
  index = Math.min(grids.length - 1, Math.max(0, index));
  grids.forEach((grid, k) => { grid.hidden = k !== index; });
  document.getElementById("sample").value = index;
  document.getElementById("sample-name").textContent = grids[index].dataset.name;
  view.shown = totals[index];
  plots.forEach((plot) => plot.mark());
}

function showNearest(total) {
  const distance = totals.map((each) => Math.abs(each - total));
  show(distance.indexOf(Math.min(...distance)));
}

if (grids.length) {
  const slider = document.getElementById("sample");
  slider.addEventListener("input", () => show(Number(slider.value)));
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.target.closest?.("input")) return;
    event.preventDefault();
    show(Number(slider.value) + step);
  });
}

// --- settings ----------------------------------------------------------------------------------------------

const search = document.getElementById("search");
search?.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll(".settings")) {
    let found = 0;
    for (const row of section.querySelectorAll("tr")) {
      row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      found += !row.hidden;
    }
    section.hidden = !found;
    if (words.length && found) section.open = true;
  }
});

for (const button of document.querySelectorAll("button.copy"))
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });

drawCurves();
show(grids.length - 1);
