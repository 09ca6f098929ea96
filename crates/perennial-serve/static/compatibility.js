// The compatibility matrix as a table whose cells are coloured, and all measured pairs below it.

import { badge } from "./badges.js";
import { byId, counted, element, grouped, moment, percent, points, spoken } from "./elements.js";

const STEPS = 9;
/** Versions up to which a cell has room for its margin and a word. */
const ROOMY = 9;

const measured = (pair) => typeof pair?.cross_test === "number";
const undecided = (pair) => pair.interval && pair.interval.low <= 0 && pair.interval.high >= 0;

export function showCompatibility(answer, live) {
  const { versions, pairs } = answer;
  const latest = new Map();
  for (const pair of pairs.filter(measured)) {
    const place = `${pair.query_version} ${pair.gallery_version}`;
    const known = latest.get(place);
    if (!known || (pair.created ?? "") >= (known.created ?? "")) latest.set(place, pair);
  }
  const find = (query, gallery) => latest.get(`${query} ${gallery}`);
  byId("compatibility-summary").textContent = summary(answer, latest, find, live);
  byId("matrix").replaceChildren(...(versions.length === 0 ? [] : matrix(answer, find, live)));
  byId("pairs").hidden = latest.size === 0;
  byId("pairs-table").replaceChildren(...pairRows([...latest.values()]));
}

function summary({ versions, stored }, latest, find, live) {
  if (versions.length === 0) return "There is no version yet, so there is nothing to compare.";
  const sentences = [];
  if (latest.size > 0) {
    const compatible = [...latest.values()].filter((pair) => pair.compatible).length;
    sentences.push(`${compatible} of ${counted(latest.size, "measured pair")} ${latest.size === 1 ? "is" : "are"} compatible.`);
  } else if (versions.length > 1) {
    sentences.push("No pair of versions has been measured yet: perennial evaluate does it.");
  }
  if (live) {
    const others = Object.keys(stored).filter((name) => name !== live && stored[name] > 0);
    const records = others.map((name) => ({ name, pair: find(live, name) ?? find(name, live) }));
    const bad = records.filter(({ pair }) => pair && !pair.compatible).map(({ name }) => name);
    const unknown = records.filter(({ pair }) => !pair).map(({ name }) => name);
    if (bad.length > 0) sentences.push(`The live version ${live} is incompatible with items of ${bad.join(", ")}.`);
    if (unknown.length > 0) sentences.push(`It was not measured how ${live} gets on with items of ${unknown.join(", ")}.`);
    const open = records.filter(({ pair }) => pair?.compatible && pair.certified === false).map(({ name }) => name);
    if (open.length > 0) sentences.push(`${live} is not certified for items of ${open.join(", ")}.`);
    if (others.length > 0 && bad.length + unknown.length + open.length === 0) {
      sentences.push(`The live version ${live} is compatible with every stored item.`);
    }
  }
  return sentences.join(" ");
}

function matrix(answer, find, live) {
  const { versions, stored, self_tests: selfTests } = answer;
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
      if (query === gallery) return selfTest(selfTests[query], step);
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
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Compatibility matrix" }, table),
    legend(low, high),
  ];
}

/** Widened to steps of 0.05 and to at least 0.1, so that equal matrices do not look dramatic. */
function range(values) {
  if (values.length === 0) return [0, 1];
  const low = Math.min(Math.floor(Math.min(...values) * 20) / 20, 0.9);
  return [low, Math.max(Math.ceil(Math.max(...values) * 20) / 20, low + 0.1)];
}

function selfTest(value, step) {
  return typeof value === "number"
    ? element("td", { class: `cell diagonal ${step(value)}` }, element("b", {}, percent(value)), spoken("percent, self-test"))
    : missing(false);
}

function cross(pair, step, dense) {
  const open = undecided(pair);
  const classes = ["cell", step(pair.cross_test)];
  if (!pair.compatible) classes.push("bad");
  if (open) classes.push("undecided");
  const parts = [element("span", { class: "value" }, percent(pair.cross_test))];
  const mark = pair.compatible ? (pair.certified === false ? "not certified" : "") : "incompatible";
  if (dense) {
    if (mark) parts.push(element("span", { "aria-hidden": "true" }, pair.compatible ? "?" : "!"), spoken(`, ${mark}`));
  } else {
    parts.push(element("small", {}, spoken("margin "), points(pair.margin)));
    if (mark) parts.push(element("span", { class: "word" }, element("span", { "aria-hidden": "true" }, pair.compatible ? "? " : "! "), mark));
  }
  if (open) parts.push(spoken(", undecided"));
  return element("td", { class: classes.join(" ") }, ...parts);
}

// An older version is not meant to search a newer one's items, so the upper triangle stays calm.
function missing(older) {
  return older
    ? element("td", { class: "cell blank" }, spoken("none, the query is older"))
    : element("td", { class: "cell hatched" }, spoken("not measured"));
}

function legend(low, high) {
  const ramp = Array.from({ length: STEPS }, (_, step) => element("i", { class: `a${step}` }));
  const key = (name, text) => element("span", { class: "key" }, element("i", { class: name }), text);
  return element("div", { class: "legend", "aria-hidden": "true" },
    element("span", { class: "ramp" }, `${Math.round(low * 100)} %`, ...ramp, `${Math.round(high * 100)} %`),
    key("outlined", "! incompatible"), key("hatched", "not measured"), key("dots", "undecided: the interval includes 0"));
}

function pairRows(pairs) {
  pairs.sort((a, b) => a.margin - b.margin);
  const column = (name, numeric) => element("th", { scope: "col", class: numeric ? "n" : null }, name);
  const number = (text, strong) => element("td", { class: strong ? "n strong" : "n" }, text);
  return [
    element("caption", {}, "Smallest margin first. Accuracies in percent, margins in points with 95 % intervals."),
    element("thead", {}, element("tr", {}, column("Query"), column("Gallery"), column("Cross-test", true), column("Old self-test", true),
      column("Margin", true), column("95 % interval", true), column("Verdict"), column("Certified"), column("Probe set"), column("Measured"))),
    element("tbody", {}, ...pairs.map((pair) => element("tr", {},
      element("th", { scope: "row" }, badge(pair.query_version)),
      element("td", {}, badge(pair.gallery_version)),
      number(percent(pair.cross_test)), number(percent(pair.self_test)), number(points(pair.margin), true),
      number(pair.interval ? `[${points(pair.interval.low)}, ${points(pair.interval.high)}]` : ""),
      element("td", {}, verdict(pair), undecided(pair) ? element("small", {}, "undecided") : null),
      element("td", {}, pair.certified ? "yes" : "no"),
      element("td", { class: "probe" }, probe(pair.queries)),
      element("td", {}, moment(pair.created, true))))),
  ];
}

function verdict(pair) {
  const tie = pair.verdict === "tie" ? "tie, counts as " : "";
  return element("span", { class: `verdict-word ${pair.compatible ? "good" : "bad"}` },
    `${pair.compatible ? "✓" : "!"} ${tie}${pair.compatible ? "compatible" : "incompatible"}`);
}

function probe(set) {
  if (set && typeof set === "object") return `${set.name ?? ""} (${grouped(set.count ?? 0)})`;
  return set === undefined || set === null ? "" : String(set);
}
