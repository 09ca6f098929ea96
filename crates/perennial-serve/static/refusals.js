// What a refusal means and what can be done on this page, in plain sentences. The server's own words are the technical detail.

import { pairOf } from "./compatibility.js";
import { percent } from "./elements.js";

const MEASURE = "Choose another version, or measure how this one reaches the stored items: the technical detail has the commands.";

const CHECKS = {
  description: ["The description of this version cannot be read.", "Publish the version again, then try once more."],
  weights: ["The file with this version's weights is damaged or missing.", "Publish the version again, then try once more."],
  load: ["This version cannot be loaded.", "Publish the version again, or choose another one."],
  warm_up: ["This version failed to embed a trial image.", "Choose another version."],
  self_check: ["This version gives unusable embeddings for trial images.", "Choose another version."],
  stored_probes: [
    "This version no longer gives the embeddings that it gave when it was first live. The program, the device or its files have changed.",
    "Choose another version, or run the service as it was before.",
  ],
  dimension: ["Its embeddings have another dimension than stored ones, and no certified bridge leads from it to them.", MEASURE],
  simplex: ["It was trained for another embedding space than the stored items, and no certified bridge leads from it to them.", MEASURE],
};

const PAIR = /^compatibility with (\S+)$/;
const ENCODER = /^encoder of (\S+)$/;

/** Name, meaning and remedy of a failed check. */
export function explainCheck({ name }, version) {
  const stored = PAIR.exec(name)?.[1];
  if (stored) {
    return { title: `Items of ${stored}`, text: explainPair(version, stored), remedy: pairOf(version, stored) ? "Choose a version that was measured as compatible with all stored items: the matrix on this page shows them." : MEASURE };
  }
  const old = ENCODER.exec(name)?.[1];
  if (old) {
    return { title: titleOf(name), text: `Items of ${old} are searched with the help of its own encoder, which cannot be used.`, remedy: `Publish ${old} again, or certify a bridge to its items.` };
  }
  const [text, remedy] = CHECKS[name] ?? ["A check of this version failed.", "Choose another version."];
  return { title: titleOf(name), text, remedy };
}

/** What is known about a version that would search the items of another. */
export function explainPair(query, gallery) {
  const pair = pairOf(query, gallery);
  if (!pair) return `It has not been measured how well ${query} finds items that ${gallery} stored.`;
  const numbers = `${percent(pair.cross_test)} % of test queries instead of ${percent(pair.self_test)} %`;
  if (pair.cross_test < pair.self_test) {
    return `${query} finds fewer of the items that ${gallery} stored than ${gallery} itself: it answers ${numbers}.`;
  }
  return `The measurement of ${query} on items of ${gallery} does not satisfy this gallery's rule: it answers ${numbers}.`;
}

const NAMES = {
  "cost per query": "Cost per query",
  description: "Description", weights: "Weights", load: "Loading", warm_up: "Trial image", self_check: "Self-check",
  stored_probes: "Reference embeddings", dimension: "Dimension", simplex: "Embedding space",
};

/** The name of a check for people. */
export function titleOf(name) {
  const stored = PAIR.exec(name)?.[1];
  const old = ENCODER.exec(name)?.[1];
  if (old) return `Encoder of ${old}`;
  return stored ? `Items of ${stored}` : NAMES[name] ?? String(name).replaceAll("_", " ");
}

/** Why a search was refused, from the pairs that the error names. */
export function explainSearch(error) {
  const pairs = Array.isArray(error.details?.pairs) ? error.details.pairs : [];
  const sentences = pairs
    .filter((pair) => pair?.query_version && pair?.gallery_version)
    .map((pair) => explainPair(pair.query_version, pair.gallery_version));
  const reasons = sentences.length > 0 ? sentences : ["The version of the query was not measured as compatible with all stored items."];
  return `${reasons.join(" ")} The results may be wrong.`;
}
