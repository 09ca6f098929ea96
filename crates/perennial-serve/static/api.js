// Requests to the server. The key stays in this module's memory and is never stored.

let key = "";

export function setKey(value) {
  key = value.trim();
}

/** An answer other than 2xx, or none at all (`status` 0). */
export class ServerError extends Error {
  constructor(status, { code = "", message = "", request_id: requestId = "", details = null } = {}, retryAfter = null) {
    super(message || `The server answered with status ${status}.`);
    Object.assign(this, { status, code, requestId, details, retryAfter });
  }
}

// Item ids go up to 2^64 - 1, beyond what a number holds exactly: larger ones are kept as BigInt where the browser can.
function parse(text) {
  return JSON.parse(text, (name, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value);
}

export function encode(value) {
  return JSON.stringify(value, (name, inner) => (typeof inner === "bigint" ? JSON.rawJSON(String(inner)) : inner));
}

async function request(method, path, { json, form, signal } = {}) {
  const headers = { accept: "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (json !== undefined) headers["content-type"] = "application/json";
  let response;
  let text;
  try {
    const body = json === undefined ? form : encode(json);
    response = await fetch(path, { method, headers, body, signal, cache: "no-store", credentials: "omit" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (error instanceof TypeError && /ISO-8859-1|ByteString/.test(error.message)) {
      throw new ServerError(0, { message: "A key has only letters, digits and signs of the ASCII alphabet." });
    }
    throw new ServerError(0, { message: "The server does not answer." });
  }
  const body = decoded(text);
  if (!response.ok) {
    throw new ServerError(response.status, body?.error, seconds(response.headers.get("retry-after")));
  }
  if (body === null) throw new ServerError(response.status, { message: "The server's answer is not JSON." });
  return body;
}

function decoded(text) {
  try {
    return parse(text);
  } catch {
    return null;
  }
}

function seconds(header) {
  return header !== null && /^\d+$/.test(header) ? Number(header) : null;
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, options) => request("POST", path, options);
export const put = (path, options) => request("PUT", path, options);
export const remove = (path, options) => request("DELETE", path, options);

const TRIES = 4;
const LONGEST_WAIT = 10;

/** Sends again when the server is too busy, up to three times; `onWait` hears for how many seconds it waits. */
export async function patiently(send, onWait, signal) {
  for (let left = TRIES - 1; ; left -= 1) {
    try {
      return await send();
    } catch (error) {
      if (error.status !== 429 || left === 0) throw error;
      const wait = Math.min(Math.max(error.retryAfter ?? 1, 1), LONGEST_WAIT);
      onWait(wait);
      await pause(wait, signal);
    }
  }
}

function pause(wait, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/** Whether an error concerns the whole page, so that one message at its top says it: no key, or no server. */
export const isOutage = (error) => error instanceof ServerError && [0, 401].includes(error.status);

/** What went wrong and what to do, for people. The server's own words are in `technical`. */
export function explain(error) {
  if (!(error instanceof ServerError)) return "Something on this page went wrong. Reload it.";
  switch (error.status) {
    case 0:
      return error.message;
    case 401:
      return key === "" ? "The server asks for a key." : "The server does not know this key.";
    case 403:
      if (error.code === "read_only") return "This server only reads. Changes go to the service that writes this gallery.";
      return key === ""
        ? "The server does not allow this page to change anything."
        : "This key may read but not write. Enter a key with the right to write.";
    case 404:
      return "The server does not have this any more. Reload the page.";
    case 413:
      return "This image is too large for the server. Choose a smaller one.";
    case 415:
      return "The server does not read this kind of image. Choose a PNG, JPEG or WebP file.";
    case 422:
      return "The server cannot use this. If it is an image, it may be damaged: choose another one.";
    case 429:
      return "The server is busy. Try again in a moment.";
    case 409:
      return "The server cannot do this in its present state. Wait a moment and try again.";
    case 503:
      return "The server cannot answer at the moment. Try again in a moment.";
    default:
      return "The server has failed to answer this. Try again; if it stays, tell whoever runs the server.";
  }
}

/** What the server said, with the request's number for its log, and the commands that help; empty where it said nothing. */
export function technical(error) {
  if (!(error instanceof ServerError) || error.status === 0) return "";
  const request = error.requestId ? ` (request ${error.requestId})` : "";
  return [`${error.status} ${error.code}: ${error.message}${request}`, ...remediesOf(error)].join("\n");
}

/** The commands that measure what a refusal misses, as the server gives them. */
export function remediesOf({ details }) {
  const commands = Array.isArray(details?.remedies) ? details.remedies : [];
  return commands.map((command) => `To measure the pair: ${command}`);
}
