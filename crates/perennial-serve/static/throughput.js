// Live figures from GET /stats/live, with a minute of history each.

import { explain, get } from "./api.js";
import { byId, element, grouped, milliseconds, svg } from "./elements.js";

const HISTORY = 60;
const INTERVAL = 1000;
const SLOW_INTERVAL = 5000;
const TIMEOUT = 5000;
const [WIDTH, HEIGHT] = [118, 30];

const rate = (value) => (value >= 100 ? grouped(Math.round(value)) : value.toFixed(1));
const METERS = [
  { name: "Searches per second", read: (stats) => stats.searches_per_second, write: rate, line: true },
  { name: "Upserts per second", read: (stats) => stats.upserts_per_second, write: rate, line: true },
  { name: "Median latency (p50)", read: (stats) => stats.p50_seconds, write: milliseconds, line: true },
  { name: "Slowest of 100 (p99)", read: (stats) => stats.p99_seconds, write: milliseconds, line: true },
  { name: "Failed requests", read: (stats) => stats.failed_total, write: grouped, of: (stats) => `of ${grouped(stats.requests_total)}` },
  { name: "Swaps", read: (stats) => stats.swaps?.moved, write: grouped, of: (stats) => `${grouped(stats.swaps?.refused ?? 0)} refused` },
  { name: "Waiting requests", read: (stats) => stats.queue_depth, write: grouped },
];

let timer = 0;
let paused = false;
let moved = null;
let swaps = [];
let onSwap = () => {};

/** `swapped` is called when the count of swaps has risen, by whoever asked for them. */
export function startThroughput(swapped) {
  onSwap = swapped;
  byId("meters").replaceChildren(...METERS.map((meter) => {
    meter.values = [];
    meter.number = element("b", {}, "\u2013");
    meter.note = element("small", {});
    meter.chart = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    return element("div", { class: meter.line ? "wide" : null }, element("dt", {}, meter.name), element("dd", {}, meter.number, meter.note, meter.line ? meter.chart : null));
  }));
  byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").setAttribute("aria-pressed", String(paused));
    byId("pause").textContent = paused ? "Continue" : "Pause";
    schedule(0);
  });
  document.addEventListener("visibilitychange", () => schedule(0));
  schedule(0);
}

function schedule(wait) {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(read, wait);
}

async function read() {
  try {
    const stats = await get("/stats/live", { signal: AbortSignal.timeout(TIMEOUT) });
    show(stats);
    byId("throughput-note").textContent = "Averages over the last 10 s, read every second. A dashed line marks a swap.";
    schedule(INTERVAL);
  } catch (error) {
    show(null);
    const text = error.name === "TimeoutError" ? "The server does not answer." : explain(error);
    byId("throughput-note").textContent = `${text} Trying again every ${SLOW_INTERVAL / 1000} s.`;
    schedule(SLOW_INTERVAL);
  }
}

function show(stats) {
  const count = stats?.swaps?.moved ?? moved;
  const swapped = moved !== null && count > moved;
  moved = count;
  swaps = [...swaps, swapped].slice(-HISTORY);
  for (const meter of METERS) {
    const value = stats ? meter.read(stats) ?? null : null;
    meter.values = [...meter.values, value].slice(-HISTORY);
    meter.number.textContent = value === null ? "\u2013" : meter.write(value);
    meter.note.textContent = stats && meter.of ? meter.of(stats) : "";
    if (meter.line) draw(meter);
  }
  METERS[4].number.classList.toggle("alarm", (stats?.failed_total ?? 0) > 0);
  if (swapped) onSwap();
}

function draw({ chart, values }) {
  const known = values.filter((value) => value !== null);
  const highest = Math.max(...known, Number.EPSILON) * 1.1;
  const x = (place) => ((place + HISTORY - values.length) / (HISTORY - 1)) * WIDTH;
  const runs = [[]];
  values.forEach((value, place) => {
    if (value === null) runs.push([]);
    else runs.at(-1).push(`${x(place).toFixed(1)},${(HEIGHT - 1 - (value / highest) * (HEIGHT - 2)).toFixed(1)}`);
  });
  chart.replaceChildren(
    svg("line", { class: "floor", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    ...swaps.flatMap((swapped, place) => (swapped ? [svg("line", { class: "swap", x1: x(place), x2: x(place), y1: 0, y2: HEIGHT })] : [])),
    ...runs.filter((run) => run.length > 1).map((run) => svg("polyline", { points: run.join(" ") })),
  );
}
