// Small parts of a page: elements, numbers and times in words, dialogs. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element: properties, `class`, `on` handlers, attributes of other names, then children or text. */
export function make(name, about = {}, ...children) {
  return filled(document.createElement(name), about, children);
}

/** As `make`, for what is drawn. */
export function draw(name, about = {}, ...children) {
  return filled(document.createElementNS(SVG, name), about, children);
}

function filled(element, about, children) {
  for (const [key, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((it) => it !== null && it !== undefined));
  return element;
}

/** Set text only where it changed, so that nothing is laid out or read again for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Keep one child for each item, by key: made once, updated in place, in order, dropped when its item is gone. */
export function keep(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((it) => [it.dataset.key, it]));
  let before = null;
  for (const item of items) {
    const name = String(key(item));
    let element = known.get(name);
    if (element) known.delete(name);
    else {
      element = create(item);
      element.dataset.key = name;
    }
    update(element, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (element !== place) parent.insertBefore(element, place);
    before = element;
  }
  for (const gone of known.values()) gone.remove();
}

/** A number with so many significant digits, never in powers of ten where it can be helped. */
export function shown(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

/** A released figure with its standard error, and no more digits than that leaves. */
export function figure(value, error) {
  if (!(error > 0)) return value.toFixed(4);
  const first = Math.floor(Math.log10(error));
  const decimals = Math.min(6, Math.max((error < 2 * 10 ** first ? 1 : 0) - first, 0));
  return `${value.toFixed(decimals)} ± ${error.toFixed(decimals)}`;
}

/** Seconds in words. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${shown(seconds, 2)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${shown(seconds / 3600, 2)} h` : `${Math.round(seconds / 86400)} days`;
}

/** Bytes in words. */
export function bytes(count) {
  return count >= 2 ** 30 ? `${(count / 2 ** 30).toFixed(2)} GiB` : `${Math.round(count / 2 ** 20)} MiB`;
}

/** A point in time, in seconds or as text: the clock today, the date before. */
export function clock(at) {
  const date = new Date(typeof at === "number" ? at * 1000 : at);
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}

/** Why a member takes no part and since when; empty where it does. */
export function apart(member) {
  return member?.apart ? `takes no part since ${clock(member.apart_since)}: ${member.apart}` : "";
}

/** The middle of some numbers. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : NaN;
}

/** Whether a button does anything now. It keeps the focus, which a disabled one would lose to the page's body. */
export function enable(button, now) {
  const off = String(!now);
  if (button.getAttribute("aria-disabled") !== off) button.setAttribute("aria-disabled", off);
}

/** A handler of clicks that does nothing while its button is not enabled. */
export function whenEnabled(handler) {
  return (event) => event.currentTarget.getAttribute("aria-disabled") !== "true" && handler(event);
}

/** Ask in a dialog, which keeps the focus until it closes and gives it back. `send` may throw a sentence. */
export function ask({ title, text, field, button, danger, send }) {
  const problem = make("p", { class: "problem", role: "alert" });
  const go = make("button", { type: "submit", class: danger ? "danger" : "primary" }, button);
  const input = field && make(field.lines ? "textarea" : "input", {
    id: "asked", required: true, maxlength: field.longest ?? 1000, rows: field.lines, spellcheck: field.lines ? "false" : null,
  });
  if (input) input.value = field.value ?? "";
  const form = make("form", { novalidate: true },
    make("h2", { id: "ask-title" }, title), make("p", {}, text),
    input && make("label", { for: "asked" }, field.label), input || null, problem,
    make("div", { class: "row end" }, make("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"), go));
  const dialog = make("dialog", { "aria-labelledby": "ask-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = input ? input.value.trim() : "";
    if (input && !value) {
      say(problem, `${field.label} is missing.`);
      return input.focus();
    }
    go.disabled = true;
    try {
      await send(value);
      dialog.close();
    } catch (error) {
      say(problem, error.message);
      go.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  (input || go).focus();
}
