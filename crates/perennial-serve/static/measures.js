// Measures of retrieval in words, the same everywhere on the page.

import { percent } from "./elements.js";

/** A measure in words; an unknown one by its name. */
export function measureName(name) {
  const [kind, cutoff] = name.split("@");
  const known = { ncm: "accuracy by nearest class mean", mrr: "MRR", map: "mAP" }[kind] ?? kind;
  return cutoff === undefined ? known : `${known}@${cutoff}`;
}

/** `recall@1 72.8 % (70.1 to 75.5 %)`. */
export function expectation({ measure, value, low, high }) {
  const bounds = typeof low === "number" && typeof high === "number" ? ` (${percent(low)} to ${percent(high)} %)` : "";
  return `${measureName(measure)} ${percent(value)} %${bounds}`;
}
