// What an answer to a search says, in words.

import { counted, milliseconds } from "./elements.js";

/**
 * How many hits are from which space and by which route, by which version, how fast, and what was not searched. `stored` says that the query
 * is the embedding that an item is stored with, whose version may not be the live one.
 */
export function summaryOf({ model_version: version, hits, parts = [], not_searched: left = 0, left_out: leftOut = [], took_seconds: took }, stored = false) {
  if (hits.length === 0) return `Nothing found. The gallery is empty, or no item passes the filters.${notSearched(left, leftOut)}`;
  const shares = new Map();
  for (const hit of hits) shares.set(hit.model_version, (shares.get(hit.model_version) ?? 0) + 1);
  const routes = new Map(parts.flatMap(({ spaces, route }) => spaces.map((space) => [space, route])));
  const by = (name) => (routes.has(name) && routes.get(name) !== "own" ? ` by route ${routes.get(name)}` : "");
  const mix = [...shares].sort(([a], [b]) => a.localeCompare(b)).map(([name, count]) => `${count} from ${name}${by(name)}`);
  const merged = hits.some(({ merged_score: score }) => typeof score === "number");
  const several = merged ? " Ranked by each score on the scale of the query's own space." : " Ranked by standard scores: how far each score is above what is usual in its space, in standard deviations.";
  const scale = parts.length > 1 ? several : "";
  return `${counted(hits.length, "item")}: ${mix.join(", ")}. Query by ${version}${stored ? ", as the item is stored" : ""}, answered in ${milliseconds(took)}.${scale}${notSearched(left, leftOut)}`;
}

// What is left out depends on the query, so the reasons are those of this answer.
function notSearched(left, leftOut) {
  if (left === 0) return "";
  const reasons = leftOut.map(({ space, reason }) => `${space} (${reason})`).join("; ");
  return ` ${counted(left, "item")} not searched${reasons ? `: ${reasons}` : ""}.`;
}
