// Knobs with what was decided about them and why; and the log, with what is out of the ordinary marked.

import { clock, draw as shape, keep, make, say, shown } from "./parts.js";

const ALARMS = ["watch", "recovery", "members", "audit"];
// Who moves knobs; alarms stand in the log.
const MOVERS = ["tuner", "probe", "recovery"];
const MARKED = /memory|fork|fail|refus|rolled-back|held|mismatch|lost|conflict|frozen|exhausted|expired|not-approved|behind|-charter|charter-/;
// How long rounds take hangs on the machines: told, and no alarm.
const COURSE = "watch: seconds ";
const FILTERS = {
  all: ["Everything", () => true],
  alarms: ["Alarms and what was done about them", (it) => it.alarm],
  decisions: ["Decisions", (it) => it.kind === "decision"],
  members: ["Members", (it) => it.member !== ""],
};
const SHOWN = 100;

/** Section: a job's knobs, their ranges, pins, and the tuner's last sentence. */
export function knobsSection(at, deeds) {
  const nothing = make("p", { class: "empty" }, "No job, no knobs.");
  const list = make("ul", { class: "knobs" });
  const last = make("div", { class: "decision" });
  at("knobs").append(make("div", { class: "head" }, make("h2", { id: "knobs-title" }, "Knobs")), nothing, list,
    make("h3", {}, "The tuner's last decision"), last);
  let job = null;

  function create() {
    const track = shape("svg", { class: "track", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img" },
      shape("path", { class: "range", d: "M0 4H100" }), shape("path", { class: "default" }), shape("path", { class: "here" }));
    const element = make("li", {}, make("div", { class: "line" }, make("strong"), make("output"), make("button", { type: "button" })), track, make("div", { class: "note" }));
    element.querySelector("button").addEventListener("click", () => {
      const { name, pinned } = element.knob;
      deeds.act("PUT", `v1/jobs/${job}/pins`, { names: [name], pinned: !pinned, reason: "on the page" },
        { done: pinned ? `Opened ${name}: it may be moved again.` : `Pinned ${name} where it is.` });
    });
    return element;
  }

  function update(element, it) {
    element.knob = it;
    const [line, track, note] = element.children;
    say(line.children[0], it.name.replaceAll("_", " "));
    say(line.children[1], shown(it.value) + (it.pinned ? ", pinned" : ""));
    say(line.children[2], it.pinned ? "Unpin" : "Pin");
    line.children[2].setAttribute("aria-label", `${it.pinned ? "Unpin" : "Pin"} ${it.name}`);
    line.children[2].disabled = !deeds.may("write");
    const place = (value) => (it.high > it.low ? 3 + (94 * (value - it.low)) / (it.high - it.low) : 50);
    track.querySelector(".here").setAttribute("d", `M${place(it.value)} 4h0`);
    track.querySelector(".default").setAttribute("d", `M${place(it.default)} 0V8`);
    track.setAttribute("aria-label", `${shown(it.value)} between ${shown(it.low)} and ${shown(it.high)}`);
    say(note, `${shown(it.low)} to ${shown(it.high)}; ${it.set_by}: ${it.reason || "no reason given"}`);
  }

  function draw(known) {
    job = known.job?.job ?? null;
    nothing.hidden = known.knobs.length > 0;
    if (job) say(nothing, "The charter opens no knobs.");
    keep(list, known.knobs, (it) => it.name, create, update);
    const newest = known.decisions.filter((it) => MOVERS.includes(it.by)).at(-1);
    keep(last, [newest ?? { id: "none" }], (it) => it.id, () => make("div", {}, make("p"), make("p", { class: "note" })), (element, it) => {
      say(element.children[0], it.sentence ?? (known.job?.plan.tuning === "probe"
        ? "Nothing was decided yet." : "The job is not tuned: its plan says tuning = \"none\", so its knobs stay unless somebody moves them."));
      say(element.children[1], it.by ? `${it.by}, at round ${it.round}, ${clock(it.at)}` : "");
    });
  }

  return { shows: ["opening", "knobs", "decisions", "job"], draw };
}

/** Section: the event log of this job and of the consortium, the newest first. */
export function logSection(at) {
  const pick = make("select", { "aria-label": "Events to show", on: { change: () => draw(last) } },
    ...Object.entries(FILTERS).map(([name, [text]]) => make("option", { value: name }, text)));
  const nothing = make("p", { class: "empty" });
  const list = make("ol", { class: "log" });
  const count = make("span", { class: "newest" });
  at("log").append(make("div", { class: "head" }, make("h2", { id: "log-title" }, "Anomalies and events"), count, pick), nothing,
    make("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Events, the newest first" }, list));
  let last = null;
  const open = new Set();

  function draw(known) {
    last = known;
    if (!known) return;
    const job = known.job?.job;
    const all = known.events.filter((it) => it.job === null || it.job === job).map((it) => ({ ...it, alarm: isAlarm(it) }));
    const found = all.filter(FILTERS[pick.value][1]).reverse();
    const alarms = all.filter((it) => it.alarm).length;
    say(count, alarms ? `${alarms} out of the ordinary` : "nothing out of the ordinary");
    nothing.hidden = found.length > 0;
    say(nothing, pick.value === "all" ? "Nothing has happened yet." : "Nothing of this kind has happened.");
    keep(list, folded(found).slice(0, SHOWN), (it) => it.name, row, update);
  }

  function row(group) {
    const more = make("button", { type: "button", class: "more", on: { click: () => {
      if (!open.delete(group.name)) open.add(group.name);
      draw(last);
    } } });
    return make("li", { class: group.head.alarm ? "alarm" : null }, ...line(group.head), more, make("ul"));
  }

  function update(element, group) {
    const [time, chip, said, more, rest] = element.children;
    time.dateTime = group.head.at;
    say(time, clock(group.head.at));
    say(chip, group.head.kind);
    say(said, group.head.sentence);
    const shown = open.has(group.name);
    more.hidden = !group.more.length;
    say(more, `and ${group.more.length} more`);
    more.setAttribute("aria-expanded", String(shown));
    rest.hidden = !shown;
    keep(rest, shown ? group.more : [], (it) => it.id, (it) => make("li", {}, ...line(it)), () => {});
  }

  return { shows: ["events", "job"], draw };
}

const line = (it) => [make("time", { datetime: it.at }, clock(it.at)), make("span", { class: "chip" }, it.kind), make("span", { class: "said" }, it.sentence)];

/** Events, the newest first, those of one kind in one: alarms of one series wherever they are, others that follow each other. */
export function folded(events) {
  const found = [];
  const series = new Map();
  for (const it of events) {
    const key = seriesOf(it);
    const everywhere = it.alarm || it.sentence.startsWith(COURSE);
    const into = everywhere ? series.get(key) : found.at(-1)?.key === key ? found.at(-1) : null;
    if (into) {
      into.more.push(it);
      // Its name is that of its oldest, so that it stays the same as more come.
      into.name = it.id;
    } else {
      found.push({ key, name: it.id, head: it, more: [] });
      series.set(key, found.at(-1));
    }
  }
  return found;
}

/** What events of one kind have in common: a watch's metric, or the kind, and of an alarm the member. */
function seriesOf(event) {
  if (event.kind === "decision") return event.sentence.match(/^watch: \S+/)?.[0] ?? `decision ${event.id}`;
  return event.alarm ? `${event.kind} ${event.member}` : event.kind;
}

/** Whether somebody should look at it: what the watch or recovery decided, failures, holds, forks. */
export function isAlarm(event) {
  if (event.kind === "decision") return !event.sentence.startsWith(COURSE) && ALARMS.some((it) => event.sentence.startsWith(`${it}:`));
  if (event.kind === "job-status") return event.facts.status === "failed";
  if (event.kind === "run-ended") return event.facts.outcome === "failed";
  return MARKED.test(event.kind);
}
