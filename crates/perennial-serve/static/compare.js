// The same query before and after an upgrade, side by side: as another version answers it, and as the live one does.

import { encode, explain, technical } from "./api.js";
import { summaryOf } from "./answers.js";
import { badge } from "./badges.js";
import { byId, counted, detail, element, problem, spoken } from "./elements.js";
import { tile } from "./tiles.js";

let live = null;

/** Fills the list of versions to compare with; the version before the live one comes first. */
export function offerComparisons(models, liveName, previous) {
  live = liveName;
  const select = byId("filter-compare");
  const chosen = select.value;
  const names = models.map(({ name }) => name).filter((name) => name !== live);
  names.sort((a, b) => Number(b === previous) - Number(a === previous) || b.localeCompare(a));
  select.replaceChildren(element("option", { value: "" }, "no other version"),
    ...names.map((name) => element("option", { value: name }, name === previous ? `${name} (previous)` : name)));
  select.value = names.includes(chosen) ? chosen : "";
  select.disabled = live === null || names.length === 0;
}

/** The version to compare with, or an empty text. */
export const comparedVersion = () => byId("filter-compare").value;

export function startComparison() {
  for (const side of ["before", "after"]) byId(`show-${side}`).addEventListener("click", () => choose(side));
  choose("after");
}

// On a narrow screen one side is shown at a time.
function choose(shown) {
  byId("sides").dataset.shown = shown;
  for (const side of ["before", "after"]) byId(`show-${side}`).setAttribute("aria-pressed", String(side === shown));
}

export function hideComparison() {
  byId("comparison").hidden = true;
  byId("tiles").hidden = false;
  for (const side of ["before", "after"]) byId(`${side}-tiles`).replaceChildren();
}

/**
 * Shows two outcomes, each `{ answer }` or `{ error }`: of `version`, and of the live version. `options` are those of the tiles.
 */
export function showComparison(version, other, current, options) {
  byId("tiles").replaceChildren();
  byId("tiles").hidden = true;
  byId("comparison").hidden = false;
  // A newer version than the live one is what would come after it.
  const upgrade = version > live;
  const [before, after] = upgrade ? [current, other] : [other, current];
  const named = (name) => [badge(name), name === live ? " (live)" : ""];
  byId("before-title").replaceChildren("Before: ", ...named(upgrade ? live : version));
  byId("after-title").replaceChildren("After: ", ...named(upgrade ? version : live));
  const marks = compared(before.answer?.hits ?? null, after.answer?.hits ?? null);
  showSide("before", before, marks.before, options);
  showSide("after", after, marks.after, options);
  byId("show-before").textContent = marks.gone === null ? "Before" : `Before (${marks.gone} gone)`;
  byId("show-after").textContent = marks.fresh === null ? "After" : `After (${marks.fresh} new)`;
  byId("comparison-summary").textContent = marks.fresh === null ? "" : summary(marks);
}

function places(both, moved) {
  if (moved === 0) return both === 1 ? "at its place" : "all at their places";
  if (moved < both) return `${moved} of them at another place`;
  return both === 1 ? "at another place" : "all at other places";
}

function summary({ both, moved, fresh, gone }) {
  const same = both === 0 ? "No item is in both answers" : `${counted(both, "item")} in both answers, ${places(both, moved)}`;
  return `${same}; ${fresh} new, ${gone} gone.`;
}

function showSide(side, { answer, error }, marks, options) {
  byId(`${side}-status`).textContent = answer ? summaryOf(answer) : "";
  byId(`${side}-problem`).replaceChildren(...(error ? [problem(explainOther(error), detail(technical(error)))] : []));
  const tiles = (answer?.hits ?? []).map((hit, place) => tile(hit, { ...options(hit), mark: marked(marks?.[place]) }));
  byId(`${side}-tiles`).replaceChildren(...tiles);
}

function explainOther(error) {
  if (error.status === 403) return "This version is not in memory, and loading it takes a key with the right to write. Enter one below, or choose the version that was live before.";
  if (error.code === "check_failed") return "This version cannot be loaded, or it no longer gives the embeddings that it gave.";
  if (error.code === "incompatible_version") return "This version searches none of the stored items: no certified route leads from it to them.";
  if (error.status === 422) return "The server cannot search as this version.";
  return explain(error);
}

/** What became of each hit: `{ kind: "new" | "gone" | "same" | "up" | "down", places, other }` by place, and the counts. */
export function compared(before, after) {
  if (before === null || after === null) return { before: null, after: null, both: null, moved: null, fresh: null, gone: null };
  const places = (hits) => new Map(hits.map(({ id }, place) => [encode(id), place]));
  const [was, is] = [places(before), places(after)];
  const marks = (hits, others, missing, sign) => hits.map(({ id }, place) => {
    const other = others.get(encode(id));
    if (other === undefined) return { kind: missing };
    const up = sign * (other - place);
    if (up === 0) return { kind: "same", other };
    return { kind: up > 0 ? "up" : "down", places: Math.abs(up), other };
  });
  const ofAfter = marks(after, was, "new", 1);
  const both = ofAfter.filter(({ kind }) => kind !== "new");
  return {
    before: marks(before, is, "gone", -1), after: ofAfter,
    both: both.length, moved: both.filter(({ kind }) => kind !== "same").length,
    fresh: after.length - both.length, gone: before.length - both.length,
  };
}

function marked(mark) {
  if (!mark) return null;
  const { kind, places } = mark;
  const change = (sign, words) => element("span", { class: `change ${kind}` }, element("span", { "aria-hidden": "true" }, sign), spoken(words));
  switch (kind) {
    case "new": return change("new", "New: not found before");
    case "gone": return change("gone", "Gone: not found after");
    case "same": return change("=", "At the same place");
    case "up": return change(`\u25b2 ${places}`, `${counted(places, "place")} higher after`);
    default: return change(`\u25bc ${places}`, `${counted(places, "place")} lower after`);
  }
}
