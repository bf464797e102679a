// What the page knows: messages merged one after another. No drawing here.

const MOST_ROUNDS = 4000;
const MOST = { events: 400, decisions: 200 };
const MOST_SCALING = 600;
const WHOLE = ["opening", "jobs", "job", "attempts", "members", "knobs", "budgets", "queue", "processes"];

/** Nothing known yet. */
export function empty() {
  return {
    opening: null, jobs: [], job: null, newest: 0, attempts: [], members: [], knobs: [], budgets: [], queue: null,
    processes: [], rounds: new Map(), figures: new Map(), events: [], decisions: [], scaling: new Map(),
  };
}

/** Merge a message into `known`; the names of what changed. */
export function merge(known, message) {
  const changed = new Set(Object.keys(message));
  if (message.fresh) {
    const before = known.opening;
    Object.assign(known, empty(), { opening: before });
    for (const name of ["rounds", "figures", "events", "decisions", "scaling"]) changed.add(name);
  }
  for (const name of WHOLE) if (name in message) known[name] = message[name];
  for (const it of message.rounds ?? []) known.rounds.set(it.round, it);
  for (const it of message.figures ?? []) {
    if (!known.figures.has(it.name)) known.figures.set(it.name, new Map());
    known.figures.get(it.name).set(it.round, it);
  }
  if ("newest" in message) {
    known.newest = message.newest;
    if (dropAbove(known, message.newest)) changed.add("rounds").add("figures");
  }
  for (const [name, most] of Object.entries(MOST)) {
    if (message[name]) known[name] = added(known[name], message[name], most);
  }
  for (const it of message.scaling ?? []) {
    known.scaling.set(it.service, added(known.scaling.get(it.service) ?? [], [it], MOST_SCALING));
  }
  bound(known);
  return changed;
}

/** What was undone is forgotten. */
function dropAbove(known, newest) {
  let dropped = false;
  for (const kept of [known.rounds, ...known.figures.values()]) {
    for (const number of kept.keys()) {
      if (number > newest) {
        kept.delete(number);
        dropped = true;
      }
    }
  }
  return dropped;
}

/** The newest last, each once. */
function added(before, more, most) {
  const last = before.length ? before[before.length - 1].id : 0;
  return [...before, ...more.filter((it) => it.id > last)].slice(-most);
}

function bound(known) {
  for (const kept of [known.rounds, ...known.figures.values()]) {
    while (kept.size > MOST_ROUNDS) kept.delete(kept.keys().next().value);
  }
}

/** Figures of one name in the order of their rounds: {x, y, error}. */
export function points(known, name) {
  return [...(known.figures.get(name)?.values() ?? [])]
    .sort((a, b) => a.round - b.round)
    .map((it) => ({ x: it.round, y: it.value, error: it.error }));
}

/** Rounds in order. */
export function rounds(known) {
  return [...known.rounds.values()].sort((a, b) => a.round - b.round);
}

/** Mean of the newest `count` figures at each point. All weigh alike: a figure and its stated error go together. */
export function trend(figures, count = 10) {
  return figures.map((it, at) => {
    const newest = figures.slice(Math.max(0, at + 1 - count), at + 1);
    return { x: it.x, y: newest.reduce((sum, other) => sum + other.y, 0) / newest.length };
  });
}
