// How the stored items are reached: which spaces are searched, by which routes, and what is left out.

import { badge } from "./badges.js";
import { counted, detail, element } from "./elements.js";
import { expectation } from "./measures.js";

const MEANING = {
  own: "compared with the query as it is",
  bridged: "the query is mapped into their space",
  dual: "their own encoder embeds the query as well",
  mapped: "their vectors are mapped into the space of the query",
};

const SCORES = {
  own_cosine: "own cosine",
  bridged_cosine: "cosine across a bridge",
  dual_cosine: "dual cosine",
  mapped_cosine: "cosine to the mapped vector",
};

const PLACES = {
  score: "Ranked by this score.",
  standard_score: "Ranked by how far this score is above what is usual in its space, in standard deviations.",
  merged_score: "Ranked by this score on the scale of the query's own space, as it was measured best.",
  own_score: "Ranked anew by the live version's own similarity.",
  kept_place: "Kept the place that it had: the second stage could not measure it.",
};

const MERGES = {
  z_scores: "what is usual in their space",
  cosines: "their similarities as they are",
  calibrated: "their similarities, calibrated",
};

/** What the score of a hit is, and what its place rests on; an older server says neither. */
export const scoreOf = ({ score_kind: kind }) => SCORES[kind] ?? "";
export const placeOf = ({ ranked_by: figure }) => PLACES[figure] ?? "";

/** The figure that a hit's place rests on where that is not its score, as a person reads it. */
export function figureOf({ ranked_by: figure, standard_score: standard, merged_score: merged, own_score: own }) {
  switch (figure) {
    case "standard_score": return typeof standard === "number" ? `Standard score ${signed(standard, 2)}` : "";
    case "merged_score": return typeof merged === "number" ? `On the query's scale ${merged.toFixed(3)}` : "";
    case "own_score": return typeof own === "number" ? `By the live version ${own.toFixed(3)}` : "";
    default: return "";
  }
}

const signed = (value, digits) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;

/** How many measures of a space a line has room for. The answers of the server have all of them, those that decide first. */
const SHOWN = 2;

/** What is expected of the searches of each space by itself; `null` where nothing was measured. */
function qualityOf({ spaces, expected = [] }) {
  const figures = spaces.flatMap((space) => {
    const measures = expected.filter((each) => each.space === space).slice(0, SHOWN).map(expectation);
    return measures.length > 0 ? [`${measures.join(", ")}${spaces.length > 1 ? ` in items of ${space}` : ""}`] : [];
  });
  if (figures.length === 0) return null;
  const levels = new Set(expected.filter(({ low }) => typeof low === "number").map(({ confidence }) => confidence));
  const level = levels.size === 1 ? `, with ${Math.round([...levels][0] * 100)} % intervals` : "";
  return ` Expected${level}: ${figures.join("; ")}.`;
}

function mergeOf({ merge, merge_queries: queries, merge_shift: shift }) {
  if (!merge || !queries) return null;
  const gain = shift ? `, and ${shift > 0 ? "+" : ""}${shift.toFixed(3)} for them` : "";
  return ` Ranked together by ${MERGES[merge] ?? merge}${gain}, which was measured best.`;
}

/** A route in words; an unknown one by its name. */
export const meaningOf = (route) => MEANING[route] ?? "";

/** One line for each part and for each space that is left out. `answer` has `parts` and `left_out`; an older server has neither. */
export function routeLines({ parts = [], left_out: leftOut = [] }) {
  const searched = parts.map((part) => element("li", {},
    ...part.spaces.flatMap((space) => [badge(space), " "]),
    element("b", {}, counted(part.items, "item")), ` by route ${part.route}: ${meaningOf(part.route)}.`,
    qualityOf(part),
    mergeOf(part),
    part.fallback ? element("span", { class: "alarm" }, ` Not the best route: ${part.fallback}.`) : null));
  const left = leftOut.map(({ space, items, reason, remedy }) => element("li", { class: "alarm" },
    badge(space), " ", element("b", {}, counted(items, "item")), ` not searched: ${reason}.`,
    detail(remedy ? `To measure it: ${remedy}` : "")));
  return [...searched, ...left];
}
