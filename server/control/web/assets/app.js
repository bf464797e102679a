// The page: who may look, one stream, and sections that are drawn anew when what they show has changed.

import { call, follow } from "./stream.js";
import { empty, merge } from "./state.js";
import { make, say } from "./parts.js";
import { figuresSections } from "./figures.js";
import { jobSection } from "./job.js";
import { membersSection } from "./members.js";
import { budgetsSection } from "./budgets.js";
import { knobsSection, logSection } from "./decisions.js";
import { processesSection, scalingSection } from "./services.js";

const TOKEN = "hansa-token";
const THEME = "hansa-theme";
const THEMES = ["auto", "light", "dark"];
const SAY_EVERY_MS = 10000;

const at = (id) => document.getElementById(id);
const page = { known: empty(), job: null, token: sessionStorage.getItem(TOKEN), stop: null, changed: new Set(), asked: false };

/** What sections may do besides drawing. */
const deeds = {
  /** Ask control for something; a refusal is shown as a sentence, or thrown where `quiet`. */
  async act(method, path, body, { quiet = false, done = "" } = {}) {
    try {
      const answer = await call(page.token, method, path, body);
      if (done) announce(done);
      return answer;
    } catch (error) {
      if (error.status === 401) refuse(error);
      if (quiet) throw error;
      complain(error.message);
      return null;
    }
  },
  /** Whether the token allows it. */
  may(scope) {
    const scopes = { read: ["read"], steer: ["read", "steer"], write: ["read", "steer", "write"] };
    return (scopes[page.known.opening?.scope] ?? []).includes(scope);
  },
  /** Show another job, or whichever runs. */
  choose(job) {
    page.job = job;
    listen();
  },
};

const sections = [jobSection, figuresSections, membersSection, budgetsSection, knobsSection, logSection, scalingSection, processesSection]
  .map((section) => section(at, deeds));

function listen() {
  page.stop?.();
  live("away", "connecting");
  page.stop = follow({ token: page.token, job: page.job, told, state: live, refused: refuse });
}

function told(message) {
  const before = page.known.job;
  for (const name of merge(page.known, message)) page.changed.add(name);
  if (message.opening) opened(message.opening);
  sayNews(before, message);
  if (!page.asked) {
    page.asked = true;
    requestAnimationFrame(redraw);
  }
}

function redraw() {
  page.asked = false;
  const changed = page.changed;
  page.changed = new Set();
  for (const section of sections) {
    if (section.shows.some((name) => changed.has(name))) section.draw(page.known, changed);
  }
  document.body.dataset.rounds = page.known.rounds.size;
  // Benchmarks ask when the page was usable.
  if (page.known.opening && !performance.getEntriesByName("drawn").length) performance.mark("drawn");
}

function opened({ scope, charter, protection, privacy, warnings }) {
  sessionStorage.setItem(TOKEN, page.token);
  at("gate").hidden = true;
  at("board").hidden = false;
  say(at("consortium"), charter.name);
  document.title = `${charter.name} · Hansa`;
  const mode = at("mode");
  mode.hidden = false;
  say(mode, `mode ${charter.mode}`);
  mode.dataset.mode = charter.mode;
  mode.title = `${protection}. ${privacy}.`;
  say(at("token"), `Token: ${scope}`);
  at("token").hidden = false;
  at("warnings").replaceChildren(...warnings.map((it) => make("p", { class: "banner", role: "note" }, `Warning: ${it}.`)));
}

let saidAt = 0;
function sayNews(before, message) {
  const { job } = message;
  if (!job || !before || before.job !== job.job) return;
  if (before.status !== job.status) announce(`The job is ${job.status}${job.reason ? `: ${job.reason}` : ""}.`);
  else if (job.round > before.round && Date.now() - saidAt > SAY_EVERY_MS) announce(`Round ${job.round} of ${job.plan.rounds}.`);
}

/** For those who listen; a few lines are kept. */
function announce(sentence) {
  saidAt = Date.now();
  at("said").append(make("p", {}, sentence));
  while (at("said").childElementCount > 5) at("said").firstChild.remove();
}

function complain(sentence) {
  const box = make("div", { class: "problem-box" }, make("p", {}, sentence));
  box.append(make("button", { type: "button", "aria-label": "Close this message", on: { click: () => box.remove() } }, "Close"));
  at("problems").append(box);
  while (at("problems").childElementCount > 3) at("problems").firstChild.remove();
}

function live(state, sentence) {
  const mark = at("live");
  if (mark.dataset.state !== state) mark.dataset.state = state;
  say(mark, sentence);
}

/** Back to the gate, with what control said. */
function refuse(error) {
  if (error.status === 404 && page.job) {
    page.job = null;
    return listen();
  }
  leave(error.status === 401 ? "This is none of control's tokens, or not one any more." : error.message);
}

function leave(sentence) {
  page.stop?.();
  page.stop = null;
  page.token = null;
  page.known = empty();
  sessionStorage.removeItem(TOKEN);
  at("board").hidden = true;
  at("gate").hidden = false;
  at("token").hidden = true;
  at("warnings").replaceChildren();
  say(at("gate-problem"), sentence);
  live("off", "not connected");
  at("gate-token").focus();
}

at("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("gate-token").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    return say(at("gate-problem"), given ? "A token is one word of plain letters and digits." : "The token is missing.");
  }
  at("gate-token").value = "";
  say(at("gate-problem"), "");
  page.token = given;
  listen();
});
at("token").addEventListener("click", () => leave(""));

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  say(at("theme"), `Theme: ${name}`);
  localStorage.setItem(THEME, name);
}
at("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
theme(THEMES.includes(localStorage.getItem(THEME)) ? localStorage.getItem(THEME) : "auto");

if (page.token) listen();
else leave("");
