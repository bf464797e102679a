// Control's stream and API. The token goes into a header and nowhere else, so the stream is read with fetch.

const SILENT_MS = 30000; // Control says that it lives every 10 s.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/** What control answered instead of doing what was asked. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** Ask control; its sentence where it refuses, ours where it is away. */
export async function call(token, method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method, cache: "no-store", credentials: "omit",
      headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "Control does not answer. Nothing was done; try again when the page is live.");
  }
  if (!answer.ok) throw new Refused(answer.status, await sentence(answer));
  return answer.json();
}

async function sentence(answer) {
  try {
    return (await answer.json()).detail ?? `Control answered ${answer.status}.`;
  } catch {
    return `Control answered ${answer.status}.`;
  }
}

/**
 * Follow the stream until it is closed; it connects again by itself, after the last message that arrived.
 * `told(message)` gets each message, `state(name, sentence)` is `live` or `away`, `refused(error)` ends it.
 */
export function follow({ token, job, told, state, refused }) {
  const closing = new AbortController();
  const path = "v1/stream" + (job ? `?job=${encodeURIComponent(job)}` : "");
  let last = null;
  let wait = FIRST_WAIT_MS;

  async function once() {
    const broken = new AbortController();
    const ended = () => broken.abort();
    closing.signal.addEventListener("abort", ended);
    let silent = setTimeout(ended, SILENT_MS);
    try {
      const headers = { Authorization: `Bearer ${token}`, Accept: "text/event-stream" };
      if (last) headers["Last-Event-ID"] = last;
      const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit", signal: broken.signal });
      if (!answer.ok) throw new Refused(answer.status, await sentence(answer));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silent);
        silent = setTimeout(ended, SILENT_MS);
        const pieces = (rest + value).split("\n\n");
        rest = pieces.pop();
        for (const piece of pieces) if (!take(piece)) return;
      }
    } finally {
      clearTimeout(silent);
      closing.signal.removeEventListener("abort", ended);
      broken.abort();
    }
  }

  /** One event; false where the server has nothing more to say. */
  function take(piece) {
    const fields = Object.fromEntries(piece.split("\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
    }));
    if (fields.event === "behind") return false;
    if (fields.data !== undefined) {
      told(JSON.parse(fields.data));
      last = fields.id ?? last;
    }
    wait = FIRST_WAIT_MS;
    state("live", "live");
    return true;
  }

  (async () => {
    while (!closing.signal.aborted) {
      let why = "Control ended the stream.";
      try {
        await once();
      } catch (error) {
        if (closing.signal.aborted) return;
        if (error instanceof Refused && error.status < 500) return refused(error);
        why = error instanceof Refused ? error.message : "Control does not answer.";
      }
      if (closing.signal.aborted) return;
      state("away", `${why} Trying again by itself.`);
      await new Promise((done) => setTimeout(done, wait * (0.8 + 0.4 * Math.random())));
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    }
  })();
  return () => closing.abort();
}
