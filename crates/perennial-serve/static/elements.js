// Elements and text. Whatever comes from the server becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`null` and `false` leave one out) and children: nodes or text. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") node.addEventListener("click", value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Text for screen readers only. */
export const spoken = (text) => element("span", { class: "spoken" }, text);

/** A count with narrow spaces between groups of three digits. */
export function grouped(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

export function counted(count, one, many = `${one}s`) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

export const percent = (fraction) => (fraction * 100).toFixed(1);

/** A difference of fractions in percentage points, signed; what rounds to zero has no sign. */
export function points(difference) {
  const digits = Math.abs(difference * 100).toFixed(1);
  const sign = Number(digits) === 0 ? "" : difference < 0 ? "\u2212" : "+";
  return sign + digits;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  let value = count;
  while (value >= 1024 && step < units.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}

export function milliseconds(secondsTaken) {
  const value = secondsTaken * 1000;
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

/** A point in time as `2026-11-22 21:35` or as its day, in UTC as the server writes it. */
export function moment(text, dayOnly = false) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)/.exec(text ?? "");
  return parts ? element("time", { datetime: text }, dayOnly ? parts[1] : `${parts[1]} ${parts[2]}`) : element("span", {}, text ?? "");
}

/** Technical detail that is folded away; nothing for an empty text. */
export function detail(text) {
  return text ? element("details", { class: "detail" }, element("summary", {}, "Technical detail"), element("p", {}, text)) : null;
}

/** A message that something failed, with buttons that may help. */
export function problem(text, ...buttons) {
  return element("div", { class: "problem" }, element("p", {}, text), ...buttons.filter((each) => each !== null));
}

export function button(text, onclick) {
  return element("button", { type: "button", onclick }, text);
}
