// How the stored items are reached: which spaces are searched, by which routes, and what is left out.

import { badge } from "./badges.js";
import { counted, element } from "./elements.js";

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
  standard_score: "Ranked by how far this score is above what is usual in its space.",
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

/** `recall@1 0.728 (0.701 to 0.755)`; `null` where nothing was measured. */
function qualityOf({ expected = [] }) {
  const figures = expected.map(({ measure, value, low, high }) =>
    `${measure} ${value.toFixed(3)}${low === null ? "" : ` (${low.toFixed(3)} to ${high.toFixed(3)})`}`);
  return figures.length > 0 ? ` Expected: ${figures.join(", ")}.` : null;
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
  const left = leftOut.map(({ space, items, reason }) => element("li", { class: "alarm" },
    badge(space), " ", element("b", {}, counted(items, "item")), ` not searched: ${reason}.`));
  return [...searched, ...left];
}
