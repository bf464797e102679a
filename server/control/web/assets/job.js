// The job: how far it is, what is under way, and what an operator may do about it.

import { ask, enable, keep, make, median, say, span, whenEnabled } from "./parts.js";
import { rounds } from "./state.js";

const OVER = ["finished", "stopped", "failed"];
const RECENT = 20;

/** Section: the shown job, and the choice of another. */
export function jobSection(at, deeds) {
  const title = make("h2", { id: "job-title" }, "Job");
  const status = make("span", { class: "chip" });
  const pick = make("select", { "aria-label": "Job to show", on: { change: () => deeds.choose(pick.value || null) } });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Rounds made" });
  const count = make("p", { class: "big" });
  const pace = make("p", { class: "note" });
  const now = make("p", { class: "note now" });
  const why = make("p", { class: "why" });
  const nothing = make("p", { class: "empty", hidden: true },
    "There is no job yet. Start one here, with hansa jobs submit, or with hansa up.");
  let shown = null;
  const verb = (name, label, sentence) => make("button", { type: "button", id: `job-${name}`, on: {
    click: whenEnabled(() => deeds.act("POST", `v1/jobs/${shown.job}/${name}`, undefined, { done: sentence })) } }, label);
  const pause = verb("pause", "Pause", "Asked the job to pause; the attempt under way is finished first.");
  const resume = verb("resume", "Resume", "Asked the job to go on.");
  const stop = make("button", { type: "button", id: "job-stop", on: { click: whenEnabled(() => ask({
    title: `Stop job '${shown.name}'?`, button: "Stop the job", danger: true,
    text: "The attempt under way is finished first. Rounds that were made stay, and so does what members were charged. It can be resumed from its last round.",
    send: () => deeds.act("POST", `v1/jobs/${shown.job}/stop`, undefined, { quiet: true, done: "Asked the job to stop." }),
  })) } }, "Stop");
  const start = make("button", { type: "button", id: "job-start", class: "primary", on: { click: () => ask({
    title: "Start a job", button: "Start it",
    text: shown ? "As the job that is shown; change what should be different. Each member is charged from its own budget as the job goes on."
      : "Each member is charged from its own budget as the job goes on.",
    field: { label: "The job, as TOML", lines: 14, longest: 20000, value: shown ? toml(shown.plan) : "rounds = 30\nsteps = 1\n" },
    send: async (text) => {
      const made = await deeds.act("POST", "v1/jobs/text", { toml: text, like: shown?.job ?? null }, { quiet: true, done: "The job is queued." });
      deeds.choose(made.job);
    },
  }) } }, "Start a job…");
  const allowed = make("p", { class: "note" });
  at("job").append(
    make("div", { class: "head" }, title, status, pick, make("div", { class: "row end" }, pause, resume, stop, start)),
    nothing, make("div", { class: "progress" }, bar, count), why, make("div", { class: "facts" }, pace, now), allowed);

  function draw(known) {
    shown = known.job;
    const job = known.job;
    for (const it of [status, bar, count, pace, now, why, pause, resume, stop]) it.hidden = !job;
    nothing.hidden = Boolean(job);
    start.disabled = !deeds.may("write");
    say(allowed, deeds.may("write") ? "" : `The token '${known.opening?.scope}' lets you look${deeds.may("steer") ? ", pause and hold" : ""}; with the token 'write' you can also act.`);
    pick.hidden = known.jobs.length < 2;
    keep(pick, [{ job: "", text: "Whichever runs" }, ...[...known.jobs].reverse().map((it) => ({
      job: it.job, text: `${it.name} ${it.job.slice(0, 8)}, ${it.status}, round ${it.round}` }))],
    (it) => it.job, (it) => make("option", { value: it.job }), (element, it) => say(element, it.text));
    say(title, job ? `Job ${job.name}` : "Job");
    if (!job) return;
    if (document.activeElement !== pick && !known.jobs.some((it) => it.job === pick.value)) pick.value = "";
    title.title = job.job;
    status.dataset.status = job.status;
    const waits = job.wanted !== "run" && job.status === "running";
    say(status, waits ? `${job.status}, to ${job.wanted}` : job.status);
    bar.max = job.plan.rounds;
    bar.value = job.round;
    say(count, `Round ${job.round} of ${job.plan.rounds}`);
    say(why, job.reason || (job.wanted !== "run" && job.wanted_reason ? `${job.wanted_by}: ${job.wanted_reason}` : ""));
    say(pace, paceOf(known));
    say(now, underWay(known));
    const over = OVER.includes(job.status);
    // What the token never allows is disabled; what the job does not allow now may be allowed soon.
    for (const [button, scope, now] of [
      [pause, "steer", !over && job.wanted === "run" && job.status !== "paused"],
      [resume, "write", job.status !== "finished" && (job.wanted !== "run" || over || job.status === "paused")],
      [stop, "write", !over && job.wanted !== "stop"],
    ]) {
      button.disabled = !deeds.may(scope);
      enable(button, now);
    }
  }

  return { shows: ["opening", "job", "jobs", "attempts", "rounds"], draw };
}

function paceOf(known) {
  const made = rounds(known).slice(-RECENT);
  if (made.length < 2) return "";
  const each = median(made.slice(1).map((it, at) => it.applied - made[at].applied));
  const left = known.job.plan.rounds - known.job.round;
  const ends = known.job.status === "running" && left > 0 ? `, about ${span(each * left)} left` : "";
  return `${span(each)} a round in the middle of the last ${made.length}${ends}; attempt ${known.job.attempt}`;
}

function underWay(known) {
  const newest = known.attempts.at(-1);
  if (newest && ["open", "summed"].includes(newest.status) && known.job.status === "running") {
    const what = { train: "training", evaluate: "measuring", statistics: "adding up statistics" }[newest.kind];
    return `Under way: attempt ${newest.attempt}, ${what} with ${newest.cohort} members.`;
  }
  const failed = known.attempts.filter((it) => ["failed", "abandoned"].includes(it.status)).at(-1);
  return failed ? `Attempt ${failed.attempt} ${failed.status}: ${failed.reason}` : "";
}

/** A plan as the TOML that starts another one like it; from which model is no field of a file (`--from` names one). */
export function toml(plan) {
  const { job, rule, pinned, start, ...plain } = plan;
  const lines = (fields) => Object.entries(fields).filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  return [...lines(plain), "", "[rule]", ...lines(rule),
    ...(Object.keys(pinned).length ? ["", "[pinned]", ...lines(pinned)] : [])].join("\n") + "\n";
}
