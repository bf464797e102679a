// Where an axis has its marks, and what stands at them.

const DAY = 86400;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY];

/** Steps of 1, 2 or 5 times a power of ten between two values, about so many. */
export function ticks(low, high, about) {
  const rough = (high - low) / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((it) => it * power >= rough * 0.999);
  const found = [];
  for (let it = Math.ceil(low / step - 1e-9); it * step <= high + step * 1e-9; it += 1) found.push(Number((it * step).toPrecision(12)));
  return found;
}

/** Whole numbers among them, with the number itself in words: [{ at, text }]. */
export function numbers(low, high, about) {
  return ticks(low, high, about).filter(Number.isInteger).map((at) => ({ at, text: String(at) }));
}

/** Round moments by the clock of whoever looks, between two in seconds, at most so many: [{ at, text }]. */
export function moments(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const step = STEPS.find((it) => it >= rough) ?? DAY * Math.ceil(rough / DAY);
  const shift = new Date(low * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let it = Math.ceil((low - shift) / step); it * step + shift <= high; it += 1) {
    const midnight = (it * step) % DAY === 0;
    found.push({ at: it * step + shift, text: midnight ? day(it * step + shift) : clockText(it * step + shift, step < 60) });
  }
  return found;
}

/** The time of day of a moment in seconds. */
export function clockText(at, seconds = false) {
  const parts = { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) };
  return new Date(at * 1000).toLocaleTimeString([], parts);
}

function day(at) {
  return new Date(at * 1000).toLocaleDateString([], { day: "numeric", month: "short" });
}
