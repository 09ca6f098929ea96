// One stored item as a tile: its picture, its text or its file's name, score, class, id, space and route.

import { badge, versionClass } from "./badges.js";
import { element, spoken } from "./elements.js";
import { figureOf, meaningOf, placeOf, scoreOf } from "./routes.js";

const THUMBNAIL = /^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}$/;

/** The picture that an item carries in its payload, as an address; `null` where there is none. */
export function pictureOf({ payload }) {
  const source = payload?.thumbnail;
  return typeof source === "string" && THUMBNAIL.test(source) ? source : null;
}

export function thumbnail(item) {
  const source = pictureOf(item);
  if (source !== null) return element("img", { src: source, alt: "", loading: "lazy" });
  const words = text(item.payload?.text);
  if (words) return element("span", { class: "neutral words" }, element("span", {}, words));
  // The caption says the class once more to those who hear the page.
  return element("span", { class: "neutral", "aria-hidden": "true" },
    element("b", {}, fileName(item)), element("span", {}, className(item)));
}

/** `search` is called with the item at a click; `isQuery` says whether it is the query; `mark` is a node for the end of the tile. */
export function tile(item, { search, isQuery = false, mark = null }) {
  const parts = [];
  if (item.score !== undefined) parts.push(element("b", {}, spoken("Score "), item.score.toFixed(3)));
  parts.push(element("span", { class: "name", title: className(item) }, className(item)));
  const figure = figureOf(item);
  const inner = element("button", { type: "button", class: `tile ${versionClass(item.model_version)}`, onclick: () => search(item) },
    thumbnail(item),
    element("span", { class: "caption" }, ...parts),
    element("span", { class: "id" }, spoken("Item "), element("span", { class: "name", title: String(item.id) }, String(item.id)), isQuery ? element("i", {}, "the query") : null),
    spoken("Embedded by "),
    badge(item.model_version),
    item.route ? element("span", { class: "route", title: meaningOf(item.route) }, `Route ${item.route}`) : null,
    scoreOf(item) ? element("span", { class: "route", title: placeOf(item) }, `Score: ${scoreOf(item)}`) : null,
    figure ? element("span", { class: "route", title: placeOf(item) }, figure) : null,
    mark);
  return element("li", {}, inner);
}

const text = (value) => (typeof value === "string" && value !== "" ? value : null);

/** The class by its name, where the payload has one, or by its number. */
function className({ label, payload }) {
  const name = text(payload?.class) ?? text(payload?.class_name);
  if (name) return name;
  return label === null || label === undefined ? "no label" : `label ${label}`;
}

/** The last part of the path of the file that an item came from, or its id. */
function fileName({ id, payload }) {
  const path = text(payload?.file) ?? text(payload?.path) ?? text(payload?.name) ?? String(id);
  return path.split(/[/\\]/).findLast((part) => part !== "") ?? path;
}
