// Versions as a table with their lineage drawn beside them, parents above children.

import { badge, mark, versionClass } from "./badges.js";
import { button, byId, element, grouped, moment, svg } from "./elements.js";

/** Width of a lane; a row is as high as the style sheet makes `.lineage tr`. */
const LANE = 18;
const ROW = 44;

const ROLES = {
  pretrained: "pre-trained",
  update: "update",
  replacement: "replacement",
  imported: "imported",
};

/** `choose` is called with the name of a version to swap to. */
export function showLineage({ models, live, previous, aliases = {} }, choose) {
  if (models.length === 0) {
    byId("lineage").replaceChildren(element("p", {}, "There is no version yet."));
    return;
  }
  const rows = lanes(models);
  const width = LANE * (1 + Math.max(...rows.flatMap(({ lane, passing }) => [lane, ...passing])));
  const column = (name, numeric) => element("th", { scope: "col", class: numeric ? "n" : null }, name);
  const table = element("table", { class: "lineage" },
    element("thead", {}, element("tr", {}, column("Version"), column("Parent"), column("Role"), column("Method"),
      column("Stored items", true), column("Created (UTC)"), column("Data"), column("Swap"))),
    element("tbody", {}, ...rows.map((row) => {
      const { model } = row;
      const names = Object.keys(aliases).filter((alias) => !["live", "previous"].includes(alias) && aliases[alias] === model.name);
      const marks = [
        ...(model.name === live ? [element("span", { class: "tag live-tag" }, "live")] : []),
        ...(model.name === previous ? [element("span", { class: "tag", title: "previous" }, "previous")] : []),
        ...names.map((alias) => element("span", { class: "tag", title: alias }, alias)),
      ];
      return element("tr", { class: model.name === live ? "live" : null },
        element("th", { scope: "row" }, element("span", { class: "node" }, graph(row, width), element("span", {}, model.name), ...marks)),
        element("td", {}, model.parent ? badge(model.parent) : "none"),
        element("td", {}, ROLES[model.role] ?? model.role ?? ""),
        element("td", {}, model.method ?? ""),
        element("td", { class: "n strong" }, grouped(model.stored_items ?? 0)),
        element("td", {}, moment(model.created)),
        element("td", { class: "data" }, element("span", { title: model.data }, model.data ?? "")),
        element("td", {}, model.name === live ? "is live" : button(`Choose ${model.name}`, () => choose(model.name))));
    })));
  byId("lineage").replaceChildren(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of versions, scrolls sideways" }, table));
}

/** Each version's lane: the last child goes on in its parent's lane, every earlier one opens its own. */
function lanes(models) {
  const names = new Set(models.map(({ name }) => name));
  const left = new Map();
  for (const { parent } of models) if (names.has(parent)) left.set(parent, (left.get(parent) ?? 0) + 1);
  // What a lane waits for: the name of a version whose children are still to come.
  const open = [];
  const free = () => {
    const place = open.indexOf(null);
    return place < 0 ? open.length : place;
  };
  return models.map((model) => {
    const from = open.indexOf(model.parent ?? undefined);
    const above = open.map((name) => name !== null);
    const last = from >= 0 && left.get(model.parent) === 1;
    if (from >= 0) left.set(model.parent, left.get(model.parent) - 1);
    const lane = last ? from : free();
    if (left.get(model.name)) open[lane] = model.name;
    else if (lane < open.length) open[lane] = null;
    const passing = above.flatMap((used, place) => (used && !(last && place === from) ? [place] : []));
    return { model, lane, from: from >= 0 ? from : null, passing, below: Boolean(left.get(model.name)) };
  });
}

function graph({ model, lane, from, passing, below }, width) {
  const x = (place) => LANE * place + LANE / 2;
  const middle = ROW / 2;
  const lines = passing.map((place) => `M${x(place)} 0V${ROW}`);
  if (from === lane) lines.push(`M${x(lane)} 0V${middle}`);
  else if (from !== null) lines.push(`M${x(from)} 0C${x(from)} ${middle} ${x(lane)} 0 ${x(lane)} ${middle}`);
  if (below) lines.push(`M${x(lane)} ${middle}V${ROW}`);
  const shape = mark(model.name);
  for (const [name, value] of Object.entries({ x: x(lane) - 6.5, y: middle - 6.5, width: 13, height: 13 })) shape.setAttribute(name, value);
  return svg("svg", { class: `graph ${versionClass(model.name)}`, width, height: ROW, viewBox: `0 0 ${width} ${ROW}`, "aria-hidden": "true" },
    svg("path", { d: lines.join("") }), shape);
}
