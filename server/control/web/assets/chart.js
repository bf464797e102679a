// A chart: a fixed handful of elements whose paths are set anew, so that a thousand rounds cost what ten do.

import { moments, numbers, ticks } from "./axes.js";
import { draw, make, say } from "./parts.js";

const HEIGHT = 220;
const EDGE = { left: 56, right: 14, top: 26, bottom: 40 };
// So far a dot at the edge of the frame stands out of it.
const DOT = 4;
const KEYS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

let count = 0;

/**
 * Axes, dots with error bars, a line, a band, marks on the lower axis; a place to read values with mouse and keys.
 * `text(point)` says a point in words; `columns` and `cells(point)` make its table. x are rounds, or with `time` moments in
 * seconds; y are whole numbers with `whole`. What is `apart` is not joined to what is before it.
 */
export class Chart {
  constructor(parent, { label, x, y, text, columns, cells, time = false, whole = false }) {
    Object.assign(this, { label, text, cells, time, whole, points: [], at: null, given: null });
    const clip = `clip-${(count += 1)}`;
    this.grid = draw("g", { class: "grid" });
    this.band = draw("path", { class: "band" });
    this.bars = draw("path", { class: "bars" });
    this.dots = draw("path", { class: "dots" });
    this.line = draw("path", { class: "line" });
    this.steps = draw("path", { class: "steps" });
    this.marks = draw("path", { class: "marks" });
    this.cursor = draw("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
    this.spot = draw("circle", { class: "spot", r: 4, visibility: "hidden" });
    this.clip = draw("rect", { x: EDGE.left - DOT, y: EDGE.top - 4, height: HEIGHT - EDGE.top - EDGE.bottom + 8 });
    this.yName = draw("text", { class: "axis", x: 4, y: 10 }, y);
    this.xName = draw("text", { class: "axis", y: HEIGHT - 6, "text-anchor": "middle" }, x);
    this.svg = draw("svg", { class: "chart", tabindex: 0, role: "img", "aria-label": label, height: HEIGHT },
      draw("clipPath", { id: clip }, this.clip), this.grid, this.yName, this.xName,
      draw("g", { "clip-path": `url(#${clip})` }, this.band, this.bars, this.dots, this.line, this.steps, this.marks),
      this.cursor, this.spot);
    this.value = make("output", { class: "value", "aria-live": "polite" });
    this.body = make("tbody");
    this.table = make("details", { class: "as-table" }, make("summary", {}, "As a table"),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${label}, as a table` },
        make("table", {}, make("thead", {}, make("tr", {}, ...columns.map((it) => make("th", { scope: "col" }, it)))), this.body)));
    this.table.addEventListener("toggle", () => this.fillTable());
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX));
    this.svg.addEventListener("pointerdown", (event) => this.point(event.clientX));
    this.svg.addEventListener("pointerleave", () => this.select(null));
    this.svg.addEventListener("blur", () => this.select(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    // The table takes the chart's place, so that what stands beside it keeps its size.
    parent.append(this.table, this.svg, this.value);
    new ResizeObserver(() => this.given && this.draw(this.given)).observe(this.svg);
  }

  /** Draw `points` [{x, y, error}], a `line` and `steps` [{x, y}], a `band` [{x, low, high}], `marks` [x],
   *  over `span` [x, x] at least. What is below `floor` or above `ceiling` is cut off; `base` is always on the axis. */
  draw({ points, line = [], steps = [], band = [], marks = [], floor = null, ceiling = null, base = null, span = [] }) {
    this.given = { points, line, steps, band, marks, floor, ceiling, base, span };
    this.points = points;
    if (this.table.open) this.fillTable();
    const width = this.svg.clientWidth;
    if (!width) return;
    this.scale(width, points, line.concat(steps), band, { floor, ceiling, base, span });
    this.clip.setAttribute("width", Math.max(0, width - EDGE.left - EDGE.right + 2 * DOT));
    this.xName.setAttribute("x", (width + EDGE.left - EDGE.right) / 2);
    this.drawGrid(width);
    this.dots.setAttribute("d", points.map((it) => `M${this.px(it.x)} ${this.py(it.y)}h0`).join(""));
    const errors = points.filter((it) => it.error > 0);
    this.bars.setAttribute("d", errors.map((it) => `M${this.px(it.x)} ${this.py(it.y - it.error)}V${this.py(it.y + it.error)}`).join(""));
    this.line.setAttribute("d", this.path(line));
    this.steps.setAttribute("d", steps.map((it, at) => (at && !it.apart ? `H${this.px(it.x)}V${this.py(it.y)}` : `M${this.px(it.x)} ${this.py(it.y)}`)).join(""));
    this.band.setAttribute("d", runs(band).map((it) => this.area(it)).join(""));
    const foot = HEIGHT - EDGE.bottom;
    this.marks.setAttribute("d", marks.map((x) => `M${this.px(x)} ${foot}v-9`).join(""));
    if (this.at !== null) this.select(Math.min(this.at, points.length - 1));
  }

  /** What the chart says in one sentence, for those who do not see it. */
  describe(sentence) {
    const said = `${this.label}. ${sentence} Arrow keys read the values.`;
    if (this.svg.getAttribute("aria-label") !== said) this.svg.setAttribute("aria-label", said);
  }

  scale(width, points, line, band, { floor, ceiling, base, span }) {
    const xs = points.map((it) => it.x).concat(line.map((it) => it.x), span);
    const ys = points.map((it) => it.y).concat(line.map((it) => it.y), band.flatMap((it) => [it.low, it.high]));
    const least = (numbers, start) => numbers.reduce((a, b) => Math.min(a, b), start);
    const most = (numbers, start) => numbers.reduce((a, b) => Math.max(a, b), start);
    let [x0, x1, y0, y1] = [least(xs, Infinity), most(xs, -Infinity), least(ys, Infinity), most(ys, -Infinity)];
    if (!(x1 > x0)) [x0, x1] = [(Number.isFinite(x0) ? x0 : 0) - (this.time ? 60 : 0), (Number.isFinite(x0) ? x0 : 0) + (this.time ? 60 : 1)];
    if (!Number.isFinite(y0)) [y0, y1] = [0, 1];
    if (base !== null) [y0, y1] = [Math.min(base, y0), Math.max(base + 1, y1)];
    const room = (y1 - y0) * 0.08 || Math.abs(y1) * 0.1 || 0.5;
    [y0, y1] = [y0 - room, y1 + room];
    if (floor !== null) y0 = Math.max(floor, y0);
    if (ceiling !== null) y1 = Math.min(ceiling, y1);
    Object.assign(this, { x0, x1, y0, y1 });
    this.px = (x) => Math.round((EDGE.left + ((x - x0) / (x1 - x0)) * (width - EDGE.left - EDGE.right)) * 10) / 10;
    this.py = (y) => Math.round((HEIGHT - EDGE.bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - EDGE.top - EDGE.bottom)) * 10) / 10;
  }

  drawGrid(width) {
    const across = (this.time ? moments : numbers)(this.x0, this.x1, width / 90);
    const up = ticks(this.y0, this.y1, this.whole ? 6 : 4).filter((it) => !this.whole || Number.isInteger(it));
    const key = JSON.stringify([width, this.x0, this.x1, across, this.y0, this.y1]);
    if (key === this.gridKey) return;
    this.gridKey = key;
    const right = width - EDGE.right;
    this.grid.replaceChildren(
      ...up.map((it) => draw("path", { d: `M${EDGE.left} ${this.py(it)}H${right}` })),
      ...up.map((it) => draw("text", { x: EDGE.left - 8, y: this.py(it) + 4, "text-anchor": "end" }, String(it))),
      ...across.map(({ at, text }) => draw("text", { x: this.px(at), y: HEIGHT - EDGE.bottom + 16, "text-anchor": this.anchor(at, text, width) }, text)));
  }

  /** A text at the right edge stands before its mark. */
  anchor(at, text, width) {
    return this.px(at) + 4 * text.length > width ? "end" : "middle";
  }

  path(points) {
    return points.map((it, at) => `${at && !it.apart ? "L" : "M"}${this.px(it.x)} ${this.py(it.y)}`).join("");
  }

  /** What lies between the low and the high of neighbours. */
  area(band) {
    const edge = (name) => (it) => `${this.px(it.x)} ${this.py(it[name])}`;
    return `M${[...band.map(edge("high")), ...[...band].reverse().map(edge("low"))].join("L")}Z`;
  }

  point(clientX) {
    if (!this.points.length) return;
    const x = clientX - this.svg.getBoundingClientRect().left;
    let best = 0;
    this.points.forEach((it, at) => {
      if (Math.abs(this.px(it.x) - x) < Math.abs(this.px(this.points[best].x) - x)) best = at;
    });
    this.select(best);
  }

  key(event) {
    const step = KEYS[event.key];
    if (step === undefined || !this.points.length) return;
    event.preventDefault();
    const last = this.points.length - 1;
    const from = this.at ?? (step < 0 ? last + 1 : -1);
    this.select(Math.min(last, Math.max(0, from + step)));
  }

  select(at) {
    this.at = at === null || at < 0 ? null : at;
    const it = this.at === null ? null : this.points[this.at];
    for (const shape of [this.cursor, this.spot]) shape.setAttribute("visibility", it ? "visible" : "hidden");
    say(this.value, it ? this.text(it) : "");
    if (!it) return;
    this.cursor.setAttribute("x1", this.px(it.x));
    this.cursor.setAttribute("x2", this.px(it.x));
    this.spot.setAttribute("cx", this.px(it.x));
    this.spot.setAttribute("cy", this.py(it.y));
  }

  /** Rows are made only while somebody looks, the newest first. */
  fillTable() {
    if (!this.table.open) return this.body.replaceChildren();
    const rows = [...this.points].reverse().slice(0, 1000);
    this.body.replaceChildren(...rows.map((it) => make("tr", {}, ...this.cells(it).map((cell) => make("td", {}, cell)))));
  }
}

/** What is joined, each for itself. */
function runs(points) {
  const found = [];
  for (const it of points) {
    if (!found.length || it.apart) found.push([]);
    found.at(-1).push(it);
  }
  return found;
}
