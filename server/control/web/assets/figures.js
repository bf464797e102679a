// Loss and score of each round's model, as released: with the standard error of the noise that was added.

import { Chart } from "./chart.js";
import { figure, keep, make, say } from "./parts.js";
import { points, trend } from "./state.js";

const NAMES = { log_loss: "log loss", auc: "AUC", rmse: "root mean squared error", mae: "mean absolute error" };
const LOSSES = ["log_loss", "rmse", "mae"];
const SHARES = ["auc", "accuracy", "calibration"];

const nameOf = (name) => NAMES[name] ?? name.replaceAll("_", " ");

/** Sections: a chart of the loss, a chart of any other figure, the AUC first. */
export function figuresSections(at, deeds) {
  const cards = [
    card(at("loss"), "loss", "Loss", (names) => names.filter((it) => LOSSES.includes(it))),
    card(at("score"), "score", "AUC", (names) => [...SHARES.filter((it) => names.includes(it)),
      ...names.filter((it) => ![...LOSSES, ...SHARES].includes(it))]),
  ];
  return { shows: ["figures", "job", "decisions"], draw: (known) => cards.forEach((it) => it(known)) };
}

function card(parent, id, called, choose) {
  const title = make("h2", { id: `${id}-title` }, called);
  const newest = make("span", { class: "newest" });
  const pick = make("select", { "aria-label": "Figure to draw", on: { change: () => { chosen = pick.value; again(); } } });
  const nothing = make("p", { class: "empty" }, "No figure yet. The first comes with the first round whose model members measured.");
  const legend = make("p", { class: "note" });
  const room = make("div");
  parent.append(make("div", { class: "head" }, title, newest, pick), nothing, room, legend);
  let chart = null;
  let last = null;
  // What a person chose; figures come one after another, and the first of them is not the one to stay at.
  let chosen = null;
  const again = () => last && draw(last);

  function draw(known) {
    last = known;
    const names = choose([...known.figures.keys()]);
    if (!parent.isConnected) return;
    keep(pick, names, (it) => it, (it) => make("option", { value: it }), (element, it) => say(element, nameOf(it)));
    pick.hidden = names.length < 2;
    const name = names.includes(chosen) ? chosen : names[0];
    if (name && pick.value !== name) pick.value = name;
    nothing.hidden = Boolean(name);
    for (const it of [room, legend, newest]) it.hidden = !name;
    if (!name) return;
    say(title, `${nameOf(name)[0].toUpperCase()}${nameOf(name).slice(1)} per round`);
    if (!chart || chart.of !== name) {
      room.replaceChildren();
      chart = new Chart(room, {
        label: `${nameOf(name)} of each round's model`, x: "round", y: nameOf(name),
        text: (it) => `Round ${it.x}: ${nameOf(name)} ${figure(it.y, it.error)}`,
        columns: ["Round", nameOf(name)], cells: (it) => [String(it.x), figure(it.y, it.error)],
      });
      chart.of = name;
    }
    const found = points(known, name);
    const noised = found.some((it) => it.error > 0);
    const means = noised ? trend(found) : found;
    const moved = known.decisions.filter((it) => Object.keys(it.knobs).length).map((it) => it.round);
    // Noise takes figures out of their range, and they are shown where they are.
    const [below, above] = [found.some((it) => it.y < 0), SHARES.includes(name) && found.some((it) => it.y > 1)];
    chart.draw({ points: found, line: means, marks: moved, floor: below ? null : 0, ceiling: SHARES.includes(name) && !above ? 1 : null });
    const end = found.at(-1);
    const mean = means.at(-1);
    say(newest, noised ? `${mean.y.toFixed(3)} in the mean of the last ${Math.min(10, found.length)}` : figure(end.y, end.error));
    chart.describe(`${found.length} figures, the newest of round ${end.x}: ${figure(end.y, end.error)}.`);
    say(legend, (noised
      ? "Dots: figures as released, with one standard error of the noise. Line: mean of the last 10."
      : "Figures as released; no noise was added.")
      + (below || above ? ` Noise took some ${[below && "below 0", above && "above 1"].filter(Boolean).join(" and ")}.` : "") + (moved.length ? " Ticks below: a knob was moved." : ""));
  }

  return draw;
}
