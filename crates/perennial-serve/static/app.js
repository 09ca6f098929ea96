// The page: reads the state of the server, gives it to the parts, and reads it again when the live version moves.

import { explain, get, technical } from "./api.js";
import { refresh as refreshBackfill, startBackfill } from "./backfill.js";
import { badge, mark, versionClass } from "./badges.js";
import { offerComparisons } from "./compare.js";
import { showCompatibility } from "./compatibility.js";
import { button, byId, bytes, counted, detail, element, grouped, problem, svg } from "./elements.js";
import { showLineage } from "./lineage.js";
import { routeLines } from "./routes.js";
import { offerInputs, offerVersions, refresh as refreshResults, startSearch } from "./search.js";
import { chooseVersion, offerSwap, startSwap } from "./swap.js";
import { startThroughput } from "./throughput.js";

/** At most one reading of the state in this many milliseconds, however often the live version moves. */
const PAUSE = 2000;

let live = null;
let shown = false;
let loading = false;
let again = false;

function askForKey() {
  byId("key").scrollIntoView({ block: "center" });
  byId("key").focus();
}

async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  again = false;
  try {
    // The info only fills the footer: without it the page still works.
    const [models, stats, pairs, info] = await Promise.all([
      get("/models"), get("/gallery/stats"), get("/compatibility"), get("/info").catch(() => null),
    ]);
    show(models, stats, pairs, info);
  } catch (error) {
    showFailure(error);
  }
  setTimeout(() => {
    loading = false;
    if (again) load();
  }, PAUSE);
}

function show(registry, stats, compatibility, info) {
  const { models } = registry;
  live = registry.live;
  shown = true;
  const stored = Object.keys(stats.per_version).filter((name) => stats.per_version[name] > 0);
  byId("headline").textContent = headline(stats, stored);
  byId("routes").replaceChildren(...(live ? routeLines(stats) : []));
  showNotices(models);
  showFacts(registry, stats);
  showComposition(stats);
  offerInputs(live === null ? [] : models.find(({ name }) => name === live)?.accepts ?? ["image"]);
  offerVersions(Object.keys(stats.per_version));
  offerComparisons(models, live, registry.previous);
  // An older server does not say what a key may do.
  const mayWrite = info?.may_write ?? true;
  refreshBackfill(mayWrite);
  offerSwap(models, live, registry.previous, mayWrite);
  showCompatibility(compatibility, live);
  showLineage(registry, chooseVersion);
  const footer = info ? [`${info.name} ${info.version}, up for ${duration(info.uptime_seconds)}. `] : [];
  byId("footer").replaceChildren(...footer, element("a", { href: "/docs" }, "API documentation"), ", ", element("a", { href: "/openapi.json" }, "OpenAPI"));
}

function headline(stats, stored) {
  const searched = live ? `, searched by ${live}` : "";
  if (stats.items === 0) return `The gallery is empty${live ? `, ${live} is live` : ""}`;
  const left = stats.not_searched ?? 0;
  const items = live && left > 0 ? `${grouped(stats.items - left)} of ${counted(stats.items, "item")}` : counted(stats.items, "item");
  return `${items} from ${counted(stored.length, "space")}${searched}`;
}

function showNotices(models) {
  const notices = [];
  if (live === null) {
    const text = models.length === 0
      ? "There is no model version yet, so nothing can be searched. perennial models import publishes an encoder, perennial train trains one."
      : "No version is live, so images cannot be searched. Choose one and make it live.";
    notices.push(problem(text, models.length === 0 ? null : button("Choose a version", () => byId("swap-version").focus())));
  }
  byId("notices").replaceChildren(...notices);
}

function showFailure(error) {
  byId("headline").textContent = error.status === 401 ? "This server asks for a key" : "The server cannot be reached";
  if (!shown) {
    byId("compatibility-summary").textContent = "Not loaded.";
    byId("lineage").replaceChildren(element("p", {}, "Not loaded."));
  }
  const retry = button("Try again", () => {
    load();
    refreshResults();
  });
  const remedy = error.status === 401 ? button("Enter the key", askForKey) : retry;
  byId("notices").replaceChildren(problem(explain(error), remedy, detail(error.status === 401 ? "" : technical(error))));
}

/** Of every partition; an older server says only the one that all have. */
function dimensionsOf({ dim, partitions = [] }) {
  const dims = new Set([...partitions.map((part) => part.dim), ...(dim ? [dim] : [])]);
  return dims.size > 0 ? [...dims].sort((one, other) => one - other).map(grouped).join(", ") : "none yet";
}

function showFacts({ previous }, stats) {
  const { index, bytes_per_vector: size, forced_writes: forced } = stats;
  const facts = [
    ["Live version", live ? badge(live) : "none"],
    ["Previous version", previous ? badge(previous) : "none"],
    ["Dimensions", dimensionsOf(stats)],
    ["Index", [index?.kind, index?.state].filter((text) => typeof text === "string").join(", ")],
    ["Bytes per vector", size ? `${bytes(size.memory)} memory, ${bytes(size.disk)} disk` : ""],
    ...(forced > 0 ? [["Items stored despite a refusal", element("strong", { class: "alarm" }, grouped(forced))]] : []),
  ];
  byId("facts").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function showComposition(stats) {
  const parts = Object.entries(stats.per_version).filter(([, count]) => count > 0);
  byId("composition").hidden = parts.length === 0;
  const [width, height, gap] = [1000, 12, 3];
  let start = 0;
  const bars = parts.map(([name, count]) => {
    const share = (count / stats.items) * width;
    const bar = svg("rect", { class: versionClass(name), x: start, width: Math.max(share - gap, 1), height });
    start += share;
    return bar;
  });
  byId("composition-bar").replaceChildren(
    svg("svg", { class: "composition", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars));
  byId("composition-legend").replaceChildren(...parts.map(([name, count]) =>
    element("li", {}, mark(name), element("b", {}, name), ` ${grouped(count)} (${((count / stats.items) * 100).toFixed(1)} %)`)));
}

function duration(seconds) {
  if (seconds < 120) return counted(Math.round(seconds), "second");
  if (seconds < 7200) return counted(Math.round(seconds / 60), "minute");
  if (seconds < 172800) return counted(Math.round(seconds / 3600), "hour");
  return counted(Math.round(seconds / 86400), "day");
}

startSwap(load, () => {
  load();
  refreshResults();
});
startThroughput(load);
startBackfill(load);
startSearch(showFailure, (version) => {
  if (version !== live) load();
});
load();
