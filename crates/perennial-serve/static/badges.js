// One mark per model version: a colour and a shape that change together, next to the name. Nothing depends on colour alone.

import { element, svg } from "./elements.js";

const COLOURS = 7;
const SHAPES = [
  ["circle", { cx: 6, cy: 6, r: 5 }],
  ["rect", { x: 1.5, y: 1.5, width: 9, height: 9 }],
  ["path", { d: "M6 .8 11.4 10.6H.6z" }],
  ["path", { d: "M6 .3 11.7 6 6 11.7.3 6z" }],
];

/** `v0001` is 0, so 28 versions in a row look different; `null` for a name of another kind. */
function place(name) {
  const digits = /^v(\d+)$/.exec(name)?.[1];
  return digits === undefined ? null : Math.max(Number(digits) - 1, 0);
}

/** The class that sets `--version` to the colour of this version. */
export function versionClass(name) {
  return place(name) === null ? "version-none" : `version-${place(name) % COLOURS}`;
}

export function mark(name) {
  const [tag, attributes] = SHAPES[(place(name) ?? 0) % SHAPES.length];
  return svg("svg", { class: `mark ${versionClass(name)}`, viewBox: "0 0 12 12", "aria-hidden": "true" }, svg(tag, attributes));
}

export function badge(name) {
  return element("span", { class: "badge", title: name }, mark(name), element("span", {}, name));
}
