// The backfill: how far it is, what it is expected to bring, what it skipped, and the buttons to pause, resume and stop it.

import { explain, get, post, remove, technical } from "./api.js";
import { curveOf, drawCurve } from "./curve.js";
import { button, byId, counted, detail, element, grouped, percent, problem } from "./elements.js";
import { measureName } from "./measures.js";

/** In milliseconds: while it runs, otherwise, and after a failure. */
const [RUNNING, RESTING, FAILED] = [2000, 15000, 10000];
const TIMEOUT = 5000;

const REASONS = {
  no_source: "The stored item does not say where its original is.",
  gone: "There is no such original any more.",
  refused: "The place is outside of what may be read.",
  unreachable: "The place does not answer.",
  unreadable: "The file cannot be read, or is too large.",
  undecodable: "The file is no picture that can be decoded, or no text.",
  other_original: "It is another picture or text than the one that was stored.",
  other_modality: "It is a text and the live version embeds pictures, or the other way round.",
  no_embedding: "The live version has no embedding for it.",
};
const STATES = { idle: "none", running: "running", paused: "paused", finished: "finished" };
const SOURCES = { folder: "a folder", url: "addresses", payload: "the items themselves", pushed: "sent by a client" };
const ORDERS = { retrieved: "most retrieved first", worst_served: "worst served first", id: "by id" };

let timer = 0;
let mayWrite = true;
let busy = false;
let stopping = false;
let shown = null;
let onDone = () => {};

/** `done` is called when a backfill has ended, so that the page shows what is stored now. */
export function startBackfill(done) {
  onDone = done;
  document.addEventListener("visibilitychange", () => schedule(0));
  // The drawing has the size of its place, so that its text can be read on any screen.
  new ResizeObserver(() => shown && draw(shown)).observe(byId("backfill-curve"));
  schedule(0);
}

/** Reads it again; `write` says whether the key may pause, resume and stop it. */
export function refresh(write) {
  mayWrite = write;
  schedule(0);
}

function schedule(wait) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(read, wait);
}

async function read() {
  if (busy) return;
  const signal = AbortSignal.timeout(TIMEOUT);
  try {
    const status = await get("/backfill", { signal });
    if (busy) return;
    byId("backfill-problem").replaceChildren();
    show(status);
    schedule(status.state === "running" ? RUNNING : RESTING);
  } catch (error) {
    if (shown === null) byId("backfill-summary").textContent = "Not loaded.";
    const text = signal.aborted ? "The server does not answer." : explain(error);
    byId("backfill-problem").replaceChildren(element("p", { class: "note" }, `${text} Trying again in ${FAILED / 1000} s.`));
    schedule(FAILED);
  }
}

async function order(send) {
  if (busy) return;
  busy = true;
  stopping = false;
  try {
    show(await send());
    byId("backfill-problem").replaceChildren();
  } catch (error) {
    byId("backfill-problem").replaceChildren(problem(explain(error), detail(technical(error))));
  } finally {
    busy = false;
    if (shown) showButtons(shown);
    schedule(RUNNING);
  }
}

function show(status) {
  const ended = shown?.state === "running" && status.state !== "running";
  shown = status;
  byId("backfill-summary").textContent = summary(status);
  byId("backfill-body").hidden = status.state === "idle";
  byId("backfill-progress").value = status.share ?? 0;
  const facts = [
    ["State", STATES[status.state] ?? status.state],
    ["Embedded again", grouped(status.done)],
    ["Left", grouped(status.left)],
    ["Rate", status.rate_items_per_second === null ? "" : `${status.rate_items_per_second.toFixed(1)} items per second`],
    ["Time left", status.seconds_left === null ? "" : duration(status.seconds_left)],
    ["Worked for", status.seconds > 0 ? duration(status.seconds) : ""],
    ["Expected quality", status.expected_quality ? `${percent(status.expected_quality.now)} % ${measureName(status.expected_quality.measure)}` : ""],
    ["Originals", SOURCES[status.originals] ?? ""],
    ["Order", ORDERS[status.order] ?? ""],
    ["Stops at", stopRule(status.stop ?? {})],
  ];
  byId("backfill-facts").replaceChildren(...facts.filter(([, value]) => value !== "")
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  showButtons(status);
  showSkipped(status);
  draw(status);
  if (ended) onDone();
}

function summary({ state, items, share, left, expected_quality: expected, model_version: version, reason, waits_for_load: waits }) {
  if (state === "idle") {
    if (share === null) return "No version is live, so nothing can be embedded again.";
    if (left === 0) return "There is none, and nothing is left to embed again: the live version has embedded everything that is stored.";
    return `There is none. ${counted(left, "item")} of ${grouped(items)} are of other versions than the live one; perennial gallery backfill embeds them again where their originals can be fetched.${promise(expected)}`;
  }
  const far = `${version} has embedded ${percent(share)} % of ${counted(items, "item")}.`;
  const waiting = waits ? " It waits, because requests come first." : "";
  return `${far}${waiting}${reason ? ` It is ${STATES[state] ?? state}: ${reason}.` : ""}`;
}

function promise(expected) {
  if (!expected || expected.complete === undefined) return "";
  return ` By the certificates, that takes the expected ${measureName(expected.measure)} from ${percent(expected.now)} % to ${percent(expected.complete)} %.`;
}

function showButtons({ state }) {
  const buttons = [];
  if (state === "running") buttons.push(press("Pause", () => order(() => post("/backfill/pause"))));
  if (state === "paused") buttons.push(press("Resume", () => order(() => post("/backfill/resume"))));
  if (stopping) {
    buttons.push(press("Stop it and forget which items failed", () => order(() => remove("/backfill"))), press("Keep it", () => ask(false)));
  } else {
    buttons.push(press(state === "finished" ? "Clear" : "Stop", () => ask(true)));
  }
  const place = byId("backfill-buttons");
  const had = [...place.children].indexOf(document.activeElement);
  // Pressing a button must not lose the focus with it.
  const same = place.childElementCount === buttons.length && buttons.every((each, index) => each.textContent === place.children[index].textContent
    && each.getAttribute("aria-disabled") === place.children[index].getAttribute("aria-disabled"));
  if (!same) {
    place.replaceChildren(...buttons);
    if (had >= 0) place.children[Math.min(had, buttons.length - 1)]?.focus();
  }
  byId("backfill-rights").textContent = mayWrite ? "" : "Pausing, resuming and stopping take a key with the right to write.";
}

function press(text, action) {
  const made = button(text, () => mayWrite && action());
  if (!mayWrite) made.setAttribute("aria-disabled", "true");
  return made;
}

function ask(whether) {
  stopping = whether;
  showButtons(shown);
}

function showSkipped({ failed, failures, changed }) {
  const rows = Object.entries(failed).sort(([, a], [, b]) => b - a)
    .map(([reason, count]) => [grouped(count), REASONS[reason] ?? reason]);
  if (changed > 0) rows.push([grouped(changed), "Somebody changed or deleted it in the same moment; it was left alone."]);
  const place = byId("backfill-skipped");
  if (rows.length === 0) {
    place.replaceChildren();
    return;
  }
  const open = place.querySelector("details")?.open ?? false;
  const names = failures.map(({ id, reason, detail: found }) =>
    element("li", {}, element("b", {}, String(id)), `: ${REASONS[reason] ?? reason} (${found})`));
  const more = element("details", { open }, element("summary", {}, failures.length < total(failed)
    ? `The first ${grouped(failures.length)} of them` : "Which items"), element("ul", {}, ...names));
  place.replaceChildren(
    element("h3", {}, "Skipped"),
    element("p", { class: "note" }, "These items keep their old embedding and are not tried again until that is asked for."),
    element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col", class: "n" }, "Items"), element("th", { scope: "col" }, "Why"))),
      element("tbody", {}, ...rows.map(([count, why]) => element("tr", {}, element("td", { class: "n" }, count), element("td", { class: "why" }, why))))),
    ...(names.length > 0 ? [more] : []));
}

const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);

function draw(status) {
  const curve = status.state === "idle" ? null : curveOf(status);
  byId("backfill-curve").hidden = curve === null;
  if (curve === null) return;
  byId("backfill-caption").textContent = curve.caption;
  drawCurve(byId("backfill-drawing"), curve);
}

function stopRule({ share, items, seconds, quality }) {
  const rules = [];
  if (share !== null && share !== undefined) rules.push(`${percent(share)} % of the gallery`);
  if (items) rules.push(counted(items, "item"));
  if (seconds) rules.push(duration(seconds));
  if (quality !== null && quality !== undefined) rules.push(`${percent(quality)} % expected quality`);
  return rules.join(" or ");
}

function duration(seconds) {
  if (seconds < 90) return counted(Math.max(Math.round(seconds), 1), "second");
  if (seconds < 5400) return counted(Math.round(seconds / 60), "minute");
  if (seconds < 172800) return counted(Math.round(seconds / 3600), "hour");
  return counted(Math.round(seconds / 86400), "day");
}
