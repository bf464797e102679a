// Who takes part: one row a member, one bar a round, as high as its answer took long.

import { apart, ask, draw as shape, keep, make, median, say, span } from "./parts.js";
import { rounds } from "./state.js";

const SHOWN = 60;
const [WIDE, HIGH] = [6, 26];
const WORDS = { replied: "answered", refused: "refused", failed: "failed", missing: "did not answer" };

/** Section: participation and duration by member and round, and holds. */
export function membersSection(at, deeds) {
  const body = make("tbody");
  const value = make("output", { class: "value", "aria-live": "polite" });
  const legend = make("p", { class: "note" },
    "A bar is a round, the newest on the right: full where the member answered, as high as it took; outlined where it refused, failed or did not answer; a dot where it was not asked.");
  at("members").append(make("div", { class: "head" }, make("h2", { id: "members-title" }, "Members")),
    make("table", { class: "members" }, make("thead", {}, make("tr", {}, ...["Member", "Now", `Last ${SHOWN} rounds`, "Took part", "Median", ""]
      .map((it) => make("th", { scope: "col" }, it || make("span", { class: "unseen" }, "Hold or release"))))), body), value, legend);

  let inForce;

  function row(member) {
    const grid = shape("svg", { class: "parts", tabindex: 0, role: "img", viewBox: `0 0 ${SHOWN * WIDE} ${HIGH}`, preserveAspectRatio: "none" });
    const element = make("tr", {}, make("th", { scope: "row" }, make("span", { class: "name" }), make("span", { class: "note" })),
      make("td", { class: "state" }), make("td", { class: "grid-cell" }, grid), make("td", { class: "number took" }), make("td", { class: "number took" }),
      make("td", { class: "deed" }, make("button", { type: "button" })));
    let spot = null;
    const read = (number) => {
      const last = element.cells_.length - 1;
      spot = number === null || last < 0 ? null : Math.min(last, Math.max(0, number));
      say(value, spot === null ? "" : element.cells_[spot].text);
    };
    grid.addEventListener("pointermove", (event) => {
      const box = grid.getBoundingClientRect();
      read(Math.floor(((event.clientX - box.left) / box.width) * SHOWN) - (SHOWN - element.cells_.length));
    });
    grid.addEventListener("pointerleave", () => read(null));
    grid.addEventListener("blur", () => read(null));
    grid.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -SHOWN, End: SHOWN }[event.key];
      if (!step) return;
      event.preventDefault();
      read((spot ?? element.cells_.length - (step < 0 ? 0 : 1)) + step);
    });
    element.querySelector("button").addEventListener("click", () => hold(element.member));
    element.cells_ = [];
    element.member = member;
    return element;
  }

  function hold(member) {
    const path = `v1/members/${member.name}/`;
    if (member.held !== null) return deeds.act("POST", `${path}release`, undefined, { done: `Released ${called(member)}.` });
    ask({
      title: `Hold ${called(member)} out?`, button: "Hold out", field: { label: "Reason", longest: 1000 },
      text: "From the next attempt on it is not selected, until somebody releases it. The reason is kept in the event log.",
      send: (reason) => deeds.act("POST", `${path}hold`, { reason }, { quiet: true, done: `Held ${called(member)} out.` }),
    });
  }

  function draw(known) {
    const shown = rounds(known).slice(-SHOWN);
    inForce = known.opening?.charter.version;
    const longest = Math.max(1e-9, ...shown.flatMap((it) => Object.values(it.members).map((part) => part.seconds)));
    keep(body, known.members, (it) => it.name, row, (element, member) => update(element, member, shown, longest));
  }

  function update(element, member, shown, longest) {
    element.member = member;
    const [name, state, , took, middle, deed] = element.children;
    say(name.children[0], called(member));
    say(name.children[1], member.sector);
    const [word, kind] = member.held !== null ? [`held out by ${member.held_by || "operator"}: ${member.held}`, "held"]
      : member.present && member.apart ? [`connected, ${apart(member)}`, "held"]
      : member.present ? [member.isolated === false ? "connected, agent not isolated" : "connected", member.isolated === false ? "held" : "good"]
        : [[member.seen ? "not connected" : "never seen", member.apart === "not connected" ? "" : apart(member)].filter(Boolean).join(", "), "off"];
    const other = inForce !== undefined && member.charter_version !== null && member.charter_version !== inForce;
    say(state, other ? `${word}; obeys version ${member.charter_version} of the charter, in force is ${inForce}` : word);
    state.dataset.state = kind;
    const cells = shown.map((it) => cell(it, member, longest));
    element.cells_ = cells;
    const grid = element.querySelector("svg");
    const answered = shown.map((it) => it.members[member.name]).filter((it) => it?.outcome === "replied");
    say(took, shown.length ? `${answered.length} of ${shown.length}` : "–");
    say(middle, span(median(answered.map((it) => it.seconds))));
    grid.setAttribute("aria-label", `${called(member)} took part in ${answered.length} of the last ${shown.length} rounds, answering in ${span(median(answered.map((it) => it.seconds)))} in the middle. Arrow keys read single rounds.`);
    bars(grid, cells);
    const button = deed.firstChild;
    say(button, member.held !== null ? "Release" : "Hold out…");
    button.disabled = !deeds.may(member.held !== null ? "write" : "steer");
    button.setAttribute("aria-label", `${member.held !== null ? "Release" : "Hold out"} ${called(member)}`);
  }

  return { shows: ["opening", "members", "rounds"], draw };
}

const called = (member) => member.title || member.name;

function cell(round, member, longest) {
  const part = round.members[member.name];
  const what = part ? `${WORDS[part.outcome]} after ${span(part.seconds)}` : `was left out: ${round.left_out[member.name] ?? "no reason is known"}`;
  return { outcome: part?.outcome ?? "out", share: part ? part.seconds / longest : 0, text: `Round ${round.round}: ${called(member)} ${what}.` };
}

/** Three paths a row, however many rounds. */
function bars(grid, cells) {
  const paths = { good: "", bad: "", out: "" };
  cells.forEach((it, number) => {
    const x = (SHOWN - cells.length + number) * WIDE + 1;
    if (it.outcome === "replied") paths.good += `M${x} ${HIGH}v${-Math.max(2, Math.round(it.share * (HIGH - 2)))}h${WIDE - 2}V${HIGH}z`;
    else if (it.outcome === "out") paths.out += `M${x + 1} ${HIGH - 3}h${WIDE - 4}v2h${4 - WIDE}z`;
    else paths.bad += `M${x} ${HIGH - 1}V2h${WIDE - 2}V${HIGH - 1}z`;
  });
  for (const [kind, path] of Object.entries(paths)) {
    let element = grid.querySelector(`.${kind}`);
    if (!element) grid.append((element = shape("path", { class: kind })));
    if (element.getAttribute("d") !== path) element.setAttribute("d", path);
  }
}
