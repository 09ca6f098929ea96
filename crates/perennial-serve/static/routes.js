// How the stored items are reached: which spaces are searched, by which routes, and what is left out.

import { badge } from "./badges.js";
import { counted, element } from "./elements.js";

const MEANING = {
  own: "compared with the query as it is",
  bridged: "the query is mapped into their space",
  dual: "their own encoder embeds the query as well",
};

/** A route in words; an unknown one by its name. */
export const meaningOf = (route) => MEANING[route] ?? "";

/** One line for each part and for each space that is left out. `answer` has `parts` and `left_out`; an older server has neither. */
export function routeLines({ parts = [], left_out: leftOut = [] }) {
  const searched = parts.map((part) => element("li", {},
    ...part.spaces.flatMap((space) => [badge(space), " "]),
    element("b", {}, counted(part.items, "item")), ` by route ${part.route}: ${meaningOf(part.route)}.`,
    part.fallback ? element("span", { class: "alarm" }, ` Not the best route: ${part.fallback}.`) : null));
  const left = leftOut.map(({ space, items, reason }) => element("li", { class: "alarm" },
    badge(space), " ", element("b", {}, counted(items, "item")), ` not searched: ${reason}.`));
  return [...searched, ...left];
}
