// Services that are scaled: demand within its forecast, replicas, cost. And the memory of processes.

import { clockText } from "./axes.js";
import { Chart } from "./chart.js";
import { bytes, clock, keep, make, median, say, shown } from "./parts.js";

const NOTHING = "No service is scaled here. The sidecar scales what its scaler.toml names: executors for jobs, replicas for scoring. "
  + "hansa scaling shows what it would do on a recorded day.";
const LEGEND = "Dots: demand and ready replicas at each look. Line and band: demand as it was forecast then for a start-up later. Steps: replicas wanted.";
const CUT = " A forecast above twice the largest demand is cut off; the table has it.";
// Looks that were not made: so many usual pauses without one.
const MISSED = 3;
const SILENT_S = 300;

/** Section: one service at a time. */
export function scalingSection(at) {
  const pick = make("select", { "aria-label": "Service to show", on: { change: () => last && draw(last) } });
  const nothing = make("p", { class: "empty" }, NOTHING);
  const room = make("div");
  const legend = make("p", { class: "note" });
  const reason = make("p", { class: "reason" });
  const [cost, violated, regret] = [make("span", { class: "cost" }), make("span"), make("span")];
  const facts = make("p", { class: "facts" }, cost, violated, regret);
  const trust = make("p", { class: "note" });
  const problem = make("p", { class: "why" });
  const queue = make("p", { class: "note" });
  at("scaling").append(make("div", { class: "head" }, make("h2", { id: "scaling-title" }, "Scaling"), pick),
    nothing, reason, problem, room, legend, facts, trust, queue);
  let charts = null;
  let last = null;

  function draw(known) {
    last = known;
    const names = [...known.scaling.keys()].sort();
    keep(pick, names, (it) => it, (it) => make("option", { value: it }), (element, it) => say(element, it));
    pick.hidden = names.length < 2;
    nothing.hidden = names.length > 0;
    if (known.queue) say(queue, `Jobs: ${known.queue.running} running, ${known.queue.waiting} waiting for an executor.`);
    for (const it of [room, legend, reason, facts, trust, problem]) it.hidden = names.length === 0;
    if (!names.length) return;
    const entries = known.scaling.get(names.includes(pick.value) ? pick.value : names[0]);
    charts ??= makeCharts(room);
    say(legend, LEGEND + (drawCharts(charts, entries) ? CUT : ""));
    const now = entries.at(-1);
    say(reason, `${now.service}: ${now.ready} ready, ${now.wanted} wanted: ${now.reason}.`);
    say(cost, `Cost so far ${shown(now.cost)}`);
    say(violated, `Above capacity ${shown(100 * now.violated)} % of the time`);
    say(regret, regretText(now.regret));
    say(trust, `${now.trusted ? "The forecast is trusted" : "The forecast is not trusted yet: replicas follow demand"}. Pattern: ${now.pattern}.`);
    const silent = Date.now() / 1000 - now.at > SILENT_S;
    say(problem, [now.problem, silent ? `Nobody has looked since ${clock(now.at)}` : ""].filter(Boolean).map((it) => `${it}.`).join(" "));
    problem.hidden = !problem.textContent;
  }

  return { shows: ["scaling", "queue"], draw };
}

/** Spent more than who knew the demand beforehand, or less. */
function regretText(regret) {
  if (regret === null) return "Regret not known yet";
  return `Regret ${shown(Math.abs(regret))} ${regret < 0 ? "less" : "more"} than hindsight would have spent`;
}

/** Draw both over the same time; whether a forecast is too high to be drawn. */
function drawCharts(charts, entries) {
  const pauses = entries.slice(1).map((it, at) => it.at - entries[at].at);
  const pause = MISSED * median(pauses);
  const apart = (it, before) => !before || it.at - before.at > pause;
  const banded = [];
  entries.forEach((it, at) => {
    if (it.band) banded.push({ x: it.at, ...it.band, y: it.band.middle, apart: apart(it, entries[at - 1]) || !entries[at - 1].band });
  });
  const points = entries.filter((it) => it.demand !== null).map((it) => ({ x: it.at, y: it.demand, entry: it }));
  // A young forecast can be far off: demand is what is to be seen.
  const most = 2 * points.reduce((found, it) => Math.max(found, it.y), 0) || Infinity;
  const cut = banded.some((it) => Math.max(it.high, it.middle) > most);
  const span = [entries[0].at, entries.at(-1).at];
  charts.demand.draw({ points, band: banded, line: banded, floor: 0, base: 0, ceiling: cut ? most : null, span });
  charts.replicas.draw({
    points: entries.map((it) => ({ x: it.at, y: it.ready, entry: it })),
    steps: entries.map((it, at) => ({ x: it.at, y: it.wanted, apart: apart(it, entries[at - 1]) })), floor: 0, base: 0, span,
  });
  const now = entries.at(-1);
  charts.demand.describe(`${entries.length} looks at ${now.service}; demand ${shown(now.demand)} now, ${forecast(now)}.`);
  charts.replicas.describe(`${now.ready} ready, ${now.wanted} wanted now.`);
  return cut;
}

const range = (band) => (band ? `${shown(band.low)} to ${shown(band.high)}` : "–");
const forecast = (it) => (it.band ? `forecast ${range(it.band)}` : "no forecast yet");
const second = (it) => clockText(it.x, true);

function makeCharts(room) {
  const demand = new Chart(room, {
    label: "Demand and its forecast", x: "time", y: "demand: jobs, or requests a minute", time: true,
    text: (it) => `${second(it)}: demand ${shown(it.y)}, ${forecast(it.entry)}`,
    columns: ["Time", "Demand", "Forecast", "Cost so far"],
    cells: (it) => [second(it), shown(it.y), range(it.entry.band), shown(it.entry.cost)],
  });
  const replicas = new Chart(room, {
    label: "Replicas", x: "time", y: "replicas", time: true, whole: true,
    text: (it) => `${second(it)}: ${it.y} ready, ${it.entry.wanted} wanted: ${it.entry.reason}`,
    columns: ["Time", "Ready", "Wanted", "Why"], cells: (it) => [second(it), String(it.y), String(it.entry.wanted), it.entry.reason],
  });
  return { demand, replicas };
}

/** Section: resident memory of the consortium's processes, as the sidecar reads it. */
export function processesSection(at) {
  const list = make("ul", { class: "processes" });
  const nothing = make("p", { class: "empty" },
    "No process was read yet. The sidecar reads the consortium's own once in a while; a member's are its own affair.");
  at("processes").append(make("div", { class: "head" }, make("h2", { id: "processes-title" }, "Memory of the consortium's processes")), nothing, list);

  function create() {
    return make("li", {}, make("div", { class: "line" }, make("strong"), make("span")),
      make("div", { class: "bar", role: "img" }, make("span", { class: "left" })), make("div", { class: "note" }));
  }

  function draw(known) {
    nothing.hidden = known.processes.length > 0;
    keep(list, known.processes, (it) => it.process, create, (element, it) => {
      const [line, bar, note] = element.children;
      const held = bytes(it.resident) + (it.bound ? ` of at most ${bytes(it.bound)}` : "");
      say(line.children[0], it.process);
      say(line.children[1], held);
      bar.hidden = !it.bound;
      const width = `${Math.min(100, it.bound ? (100 * it.resident) / it.bound : 0)}%`;
      if (bar.firstChild.style.width !== width) bar.firstChild.style.width = width;
      bar.setAttribute("aria-label", held);
      bar.dataset.low = Boolean(it.alarm);
      say(note, it.alarm);
    });
  }

  return { shows: ["processes"], draw };
}
