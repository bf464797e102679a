// Budgets by the server's mirror: bars, what is left, and when it would be gone.

import { apart, keep, make, say, shown } from "./parts.js";

/** Section: one bar a grant. */
export function budgetsSection(at) {
  const nothing = make("p", { class: "empty" });
  const list = make("ul", { class: "budgets" });
  const legend = make("p", { class: "note legend" }, ...[["job", "taken by this job"], ["spent", "by others"], ["left", "left"]]
    .map(([kind, text]) => make("span", {}, make("i", { class: kind }), text)));
  const mirror = make("p", { class: "note" },
    "The server's mirror, made of receipts that members signed: at least so much was spent. Each organisation's own ledger decides, and to freeze a grant is its own command: ",
    make("code", {}, "hansa budgets freeze GRANT --reason TEXT"), ".");
  at("budgets").append(make("div", { class: "head" }, make("h2", { id: "budgets-title" }, "Privacy budgets")), nothing, legend, list, mirror);

  function create() {
    return make("li", {}, make("div", { class: "line" }, make("strong"), make("span")),
      make("div", { class: "bar", role: "img" }, make("span", { class: "job" }), make("span", { class: "spent" }), make("span", { class: "left" })),
      make("div", { class: "note" }));
  }

  function draw(known) {
    const members = new Map(known.members.map((it) => [it.name, it]));
    const none = known.opening?.charter.noise === "none";
    nothing.hidden = known.budgets.length > 0;
    mirror.hidden = none;
    legend.hidden = !known.budgets.length;
    say(nothing, none
      ? "The charter has no noise: nothing is charged, and nothing bounds what the model says of a single record."
      : "No receipt yet. Each member's budget shows here with its first upload.");
    keep(list, known.budgets, (it) => `${it.member}/${it.grant}`, create, (element, it) => update(element, it, members.get(it.member), known.job));
  }

  function update(element, it, member, job) {
    const [line, bar, note] = element.children;
    say(line.children[0], member?.title || it.member);
    say(line.children[1], `${it.percent_left.toFixed(1)} % left of grant '${it.grant}'`);
    const before = Math.max(0, 100 - it.percent_left - it.percent_job);
    [it.percent_job, before, it.percent_left].forEach((share, at) => {
      const width = `${Math.max(0, Math.min(100, share))}%`;
      if (bar.children[at].style.width !== width) bar.children[at].style.width = width;
    });
    bar.setAttribute("aria-label", `${it.percent_left.toFixed(1)} percent left; this job took ${it.percent_job.toFixed(1)}, others ${before.toFixed(1)}`);
    bar.dataset.low = it.percent_left < 10;
    const spent = it.epsilon_spent === null ? "" : `epsilon ${shown(it.epsilon_spent)} of ${shown(it.epsilon)} at delta ${shown(it.delta)} spent; `;
    const job_ = `this job took ${it.percent_job.toFixed(1)} %`;
    say(note, `${spent}${job_}. ${member?.apart ? `Its member ${apart(member)}.` : lasts(it, job)}`);
  }

  return { shows: ["opening", "budgets", "members", "job"], draw };
}

function lasts(it, job) {
  if (it.rounds_left === null || !job) return "This job was not paid from it.";
  if (it.rounds_left === 0) return "It does not pay for another round like these.";
  const more = job.plan.rounds - job.round;
  const ends = job.status === "finished" || more <= 0 ? "the job has made all its rounds"
    : it.rounds_left >= more ? `the job ends before, at round ${job.plan.rounds}` : `before the job ends, at round ${job.plan.rounds}`;
  return `It would be exhausted at round ${it.last_round.toLocaleString("en")}, after ${it.rounds_left.toLocaleString("en")} more like these; ${ends}.`;
}
