// The compatibility matrix as a table whose cells are coloured, and all measured pairs below it.

import { badge } from "./badges.js";
import { byId, counted, element, grouped, moment, percent, points, spoken } from "./elements.js";

const STEPS = 9;
/** Versions up to which a cell has room for its margin and a word. */
const ROOMY = 9;

let shown = null;
let all = false;

const measured = (pair) => typeof pair?.cross_test === "number";

/** `compatible`, `undecided` or `incompatible`: the server's verdict, or what the pair's interval says. */
export function verdictOf(pair) {
  if (pair.verdict === "undecided") return pair.verdict;
  const { interval } = pair;
  if (typeof interval?.low === "number" && typeof interval?.high === "number") {
    if (interval.low >= 0) return "compatible";
    return interval.high < 0 ? "incompatible" : "undecided";
  }
  return pair.compatible ? "compatible" : "incompatible";
}

/** The newest measurement of a pair; `null` where there is none. */
export function pairOf(query, gallery) {
  return shown?.find(query, gallery) ?? null;
}

export function showCompatibility(answer, live) {
  const latest = new Map();
  for (const pair of (answer.pairs ?? []).filter(measured)) {
    const place = `${pair.query_version} ${pair.gallery_version}`;
    const known = latest.get(place);
    if (!known || (pair.created ?? "") >= (known.created ?? "")) latest.set(place, pair);
  }
  const find = (query, gallery) => latest.get(`${query} ${gallery}`);
  shown = { answer, latest, find, live };
  draw();
}

function draw() {
  const { answer, latest, find, live } = shown;
  const { versions, stored = {} } = answer;
  const first = opening(versions, stored, find, live);
  const chosen = all ? versions : first;
  byId("compatibility-summary").textContent = summary(answer, latest, find, live);
  byId("matrix").replaceChildren(...(chosen.length === 0 ? [] : matrix({ ...answer, versions: chosen }, find, live)));
  const toggle = byId("all-versions");
  toggle.hidden = first.length === versions.length;
  toggle.setAttribute("aria-pressed", String(all));
  toggle.textContent = all ? "Show only live, stored and measured versions" : `Show all ${versions.length} versions`;
  toggle.onclick = () => {
    all = !all;
    draw();
  };
  byId("pairs").hidden = latest.size === 0;
  byId("pairs-table").replaceChildren(...pairRows([...latest.values()]));
}

/** The live version, those with stored items, and those that were measured on all of these: the next ones that could go live. */
function opening(versions, stored, find, live) {
  const base = versions.filter((name) => name === live || stored[name] > 0);
  if (base.length === 0) return versions;
  const next = (name) => base.every((other) => find(name, other));
  return versions.filter((name) => base.includes(name) || next(name));
}

function summary({ versions, stored = {}, parts: searched = [] }, latest, find, live) {
  if (versions.length === 0) return "There is no version yet, so there is nothing to compare.";
  const sentences = [];
  if (latest.size > 0) {
    const counts = { compatible: 0, undecided: 0, incompatible: 0 };
    for (const pair of latest.values()) counts[verdictOf(pair)] += 1;
    const parts = Object.entries(counts).filter(([, count]) => count > 0).map(([word, count]) => `${count} ${word}`);
    sentences.push(`${counted(latest.size, "measured pair")} of versions: ${parts.join(", ")}.`);
  } else if (versions.length > 1) {
    sentences.push("No two versions have been compared yet.");
  }
  if (live) {
    const others = Object.keys(stored).filter((name) => name !== live && stored[name] > 0);
    const records = others.map((name) => ({ name, pair: find(live, name) }));
    const named = (wanted) => records.filter(({ pair }) => wanted(pair)).map(({ name }) => name).join(", ");
    const bad = named((pair) => pair && verdictOf(pair) === "incompatible");
    const open = named((pair) => pair && verdictOf(pair) === "undecided");
    // A certificate measured what comes of a bridge; the matrix is about vectors as they are.
    const across = new Set(searched.filter(({ route }) => route !== "own").flatMap(({ spaces }) => spaces));
    const bridged = others.filter((name) => across.has(name)).join(", ");
    const unknown = records.filter(({ name, pair }) => !pair && !across.has(name)).map(({ name }) => name).join(", ");
    if (bad) sentences.push(`The live version ${live} finds fewer of the items of ${bad} than the version that stored them.`);
    if (open) sentences.push(`Whether ${live} finds the items of ${open} as well as the version that stored them is undecided.`);
    if (unknown) sentences.push(`How well ${live} finds the items of ${unknown} has not been measured.`);
    if (bridged) sentences.push(`Searches by ${live} reach the items of ${bridged} by other routes than own, for which their certificates count.`);
    const refused = named((pair) => pair && verdictOf(pair) !== "incompatible" && pair.certified === false);
    if (refused) sentences.push(`Searches by ${live} in items of ${refused} are not allowed by this gallery's rule.`);
    if (others.length > 0 && !bad && !open && !unknown && !refused && !bridged) {
      sentences.push(`The live version ${live} is compatible with every stored item.`);
    }
  }
  return sentences.join(" ");
}

function matrix(answer, find, live) {
  const { versions, stored = {} } = answer;
  const selfTests = selfTestsOf(answer);
  const dense = versions.length > ROOMY;
  const values = versions.flatMap((query) => versions.map((gallery) => (query === gallery ? selfTests[query] : find(query, gallery)?.cross_test)));
  const [low, high] = range(values.filter((value) => typeof value === "number"));
  const step = (value) => `a${Math.min(Math.max(Math.floor(((value - low) / (high - low)) * STEPS), 0), STEPS - 1)}`;
  const head = element("tr", {},
    element("th", { scope: "col", class: "corner" }, element("span", {}, "query"), " \\ ", element("span", {}, "gallery")),
    ...versions.map((name) => element("th", { scope: "col" }, dense ? name : badge(name), element("small", {}, `${grouped(stored[name] ?? 0)} stored`))));
  const body = versions.map((query, row) => element("tr", { class: query === live ? "live" : null },
    element("th", { scope: "row" }, badge(query), query === live ? element("small", {}, "live") : null),
    ...versions.map((gallery, column) => {
      if (query === gallery) return selfTest(selfTests[query], step, dense);
      const pair = find(query, gallery);
      return pair ? cross(pair, step, dense) : missing(row < column);
    })));
  // Above the table rather than its caption: a wide table's caption would be cut off on a narrow screen.
  const explanation = "Accuracy in percent. Rows: the version that embeds the queries. Columns: the version that embedded the gallery. " +
    `Diagonal: self-tests.${dense ? "" : " Small figures: margin over the gallery version's self-test, in points."}`;
  const table = element("table", { class: dense ? "map dense" : "map", "aria-label": "Compatibility matrix", "aria-describedby": "matrix-note" },
    element("thead", {}, head), element("tbody", {}, ...body));
  return [
    element("p", { class: "note", id: "matrix-note" }, explanation),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Matrix, scrolls sideways" }, table),
    legend(low, high),
  ];
}

/** Self-tests by version. Records hold them for the version that embedded the gallery. */
function selfTestsOf({ self_tests: told = {}, pairs = [] }) {
  const found = {};
  for (const pair of pairs.filter(measured)) {
    if (typeof pair.self_test === "number") found[pair.gallery_version] = pair.self_test;
    if (typeof pair.query_self_test === "number") found[pair.query_version] ??= pair.query_self_test;
  }
  return { ...found, ...told };
}

/** Widened to steps of 0.05 and to at least 0.1, so that equal matrices do not look dramatic. */
function range(values) {
  if (values.length === 0) return [0, 1];
  const low = Math.min(Math.floor(Math.min(...values) * 20) / 20, 0.9);
  return [low, Math.max(Math.ceil(Math.max(...values) * 20) / 20, low + 0.1)];
}

function selfTest(value, step, dense) {
  return typeof value === "number"
    ? element("td", { class: `cell diagonal ${step(value)}` }, element("b", {}, percent(value)), spoken("percent, self-test"))
    : element("td", { class: "cell blank" }, dense ? spoken("no test recorded yet") : element("small", {}, "no test recorded yet"));
}

function cross(pair, step, dense) {
  const verdict = verdictOf(pair);
  const classes = ["cell", step(pair.cross_test)];
  if (verdict === "incompatible") classes.push("bad");
  if (verdict === "undecided") classes.push("undecided");
  const sign = { compatible: "", undecided: "? ", incompatible: "! " }[verdict];
  const word = verdict === "compatible" ? (pair.certified === false ? "not allowed" : "") : verdict;
  const parts = [element("span", { class: "value" }, percent(pair.cross_test))];
  if (dense) {
    if (word) parts.push(element("span", { "aria-hidden": "true" }, sign.trim()), spoken(`, ${word}`));
  } else {
    parts.push(element("small", {}, spoken("margin "), points(pair.margin)));
    if (word) parts.push(element("span", { class: "word" }, element("span", { "aria-hidden": "true" }, sign), word));
  }
  return element("td", { class: classes.join(" ") }, ...parts);
}

// An older version is not meant to search a newer one's items, so the upper triangle stays calm.
function missing(older) {
  return older
    ? element("td", { class: "cell blank" }, spoken("empty, the query version is older"))
    : element("td", { class: "cell hatched" }, spoken("not measured"));
}

function legend(low, high) {
  const ramp = Array.from({ length: STEPS }, (_, step) => element("i", { class: `a${step}` }));
  const key = (name, text) => element("span", { class: "key" }, element("i", { class: name }), text);
  return element("div", { class: "legend", "aria-hidden": "true" },
    element("span", { class: "ramp" }, `${Math.round(low * 100)} %`, ...ramp, `${Math.round(high * 100)} %`),
    key("outlined", "! incompatible"), key("hatched", "not measured"), key("dots", "? undecided: the interval includes 0"));
}

function pairRows(pairs) {
  pairs.sort((a, b) => a.margin - b.margin);
  const column = (name, numeric) => element("th", { scope: "col", class: numeric ? "n" : null }, name);
  const number = (text, strong) => element("td", { class: strong ? "n strong" : "n" }, text);
  return [
    element("caption", {}, "Smallest margin first. Accuracies in percent, margins in points with 95 % intervals."),
    element("thead", {}, element("tr", {}, column("Query"), column("Gallery"), column("Cross-test", true), column("Old self-test", true),
      column("Margin", true), column("95 % interval", true), column("Verdict"), column("Search allowed"), column("Queries"), column("Measured"))),
    element("tbody", {}, ...pairs.map((pair) => element("tr", {},
      element("th", { scope: "row" }, badge(pair.query_version)),
      element("td", {}, badge(pair.gallery_version)),
      number(percent(pair.cross_test)), number(percent(pair.self_test)), number(points(pair.margin), true),
      number(pair.interval ? `[${points(pair.interval.low)}, ${points(pair.interval.high)}]` : ""),
      element("td", {}, verdict(pair)),
      element("td", {}, pair.certified ? "yes" : "no"),
      element("td", { class: "probe" }, probe(pair.queries)),
      element("td", {}, moment(pair.created, true))))),
  ];
}

function verdict(pair) {
  const word = verdictOf(pair);
  const [tone, sign] = { compatible: ["good", "✓"], undecided: ["open", "?"], incompatible: ["bad", "!"] }[word];
  return element("span", { class: `verdict-word ${tone}` }, `${sign} ${word}`);
}

function probe(set) {
  if (set && typeof set === "object") return `${set.name ?? ""} (${grouped(set.count ?? 0)})`;
  return set === undefined || set === null ? "" : String(set);
}
