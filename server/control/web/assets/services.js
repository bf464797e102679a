// Services that are scaled: demand within its forecast, replicas, cost. And the memory of processes.

import { Chart } from "./chart.js";
import { bytes, keep, make, say, shown } from "./parts.js";

const hour = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** Section: one service at a time. */
export function scalingSection(at) {
  const pick = make("select", { "aria-label": "Service to show", on: { change: () => last && draw(last) } });
  const nothing = make("p", { class: "empty" },
    "No service is scaled here. The sidecar scales what its scaler.toml names: executors for jobs, replicas for scoring. hansa scaling shows what it would do on a recorded day.");
  const room = make("div");
  const reason = make("p");
  const facts = make("p", { class: "note" });
  const queue = make("p", { class: "note" });
  at("scaling").append(make("div", { class: "head" }, make("h2", { id: "scaling-title" }, "Scaling"), pick), nothing, room, reason, facts, queue);
  let charts = null;
  let last = null;

  function draw(known) {
    last = known;
    const names = [...known.scaling.keys()].sort();
    keep(pick, names, (it) => it, (it) => make("option", { value: it }), (element, it) => say(element, it));
    pick.hidden = names.length < 2;
    nothing.hidden = names.length > 0;
    if (known.queue) say(queue, `Jobs: ${known.queue.running} running, ${known.queue.waiting} waiting for an executor.`);
    for (const it of [room, reason, facts]) it.hidden = names.length === 0;
    if (!names.length) return;
    const entries = known.scaling.get(names.includes(pick.value) ? pick.value : names[0]);
    charts ??= makeCharts(room);
    charts.demand.draw({
      points: entries.filter((it) => it.demand !== null).map((it) => ({ x: it.at, y: it.demand, entry: it })),
      band: entries.filter((it) => it.band).map((it) => ({ x: it.at, low: it.band.low, high: it.band.high })),
      line: entries.filter((it) => it.band).map((it) => ({ x: it.at, y: it.band.middle })), floor: 0,
    });
    charts.replicas.draw({
      points: entries.map((it) => ({ x: it.at, y: it.ready, entry: it })),
      steps: entries.map((it) => ({ x: it.at, y: it.wanted })), floor: 0,
    });
    const now = entries.at(-1);
    charts.demand.describe(`${entries.length} looks at ${now.service}; demand ${shown(now.demand)} now.`);
    charts.replicas.describe(`${now.ready} ready, ${now.wanted} wanted now.`);
    say(reason, `${now.service}: ${now.ready} ready, ${now.wanted} wanted. ${now.reason}`);
    say(facts, `Cost so far ${shown(now.cost)}; demand was above capacity ${shown(100 * now.violated)} % of the time; `
      + `${now.regret === null ? "regret is not known yet" : `${shown(now.regret)} more than hindsight would have spent`}. `
      + `${now.trusted ? "The forecast is trusted." : "The forecast is not trusted yet: it follows demand."}`
      + `${now.problem ? ` ${now.problem}` : ""}`);
  }

  return { shows: ["scaling", "queue"], draw };
}

function makeCharts(room) {
  const demand = new Chart(room, {
    label: "Demand within its forecast", x: "time", y: "demand", whole: false, xText: hour,
    text: (it) => `${hour(it.x)}: demand ${shown(it.y)}${it.entry.band ? `, forecast ${shown(it.entry.band.low)} to ${shown(it.entry.band.high)}` : ""}`,
    columns: ["Time", "Demand", "Forecast", "Cost"],
    cells: (it) => [hour(it.x), shown(it.y), it.entry.band ? `${shown(it.entry.band.low)} to ${shown(it.entry.band.high)}` : "–", shown(it.entry.cost)],
  });
  const replicas = new Chart(room, {
    label: "Replicas", x: "time", y: "replicas: dots ready, line wanted", whole: false, xText: hour,
    text: (it) => `${hour(it.x)}: ${it.y} ready, ${it.entry.wanted} wanted; ${it.entry.reason}`,
    columns: ["Time", "Ready", "Wanted", "Why"], cells: (it) => [hour(it.x), String(it.y), String(it.entry.wanted), it.entry.reason],
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
