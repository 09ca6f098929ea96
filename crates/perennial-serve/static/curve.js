// A line in a plane with axes, labels and units, drawn to the size of its place.

import { svg } from "./elements.js";
import { measureName } from "./measures.js";

const HEIGHT = 240;
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 16, 32, 46];
/** Pixels between two ticks, at least. */
const [APART_X, APART_Y] = [70, 34];

/**
 * What is drawn of a backfill: the expected quality by the share that is embedded again or, where nothing is expected, that share by time.
 * `null` with fewer than two points.
 */
export function curveOf({ curve = [], share, seconds, expected_quality: expected, model_version: version }) {
  const known = curve.filter((point) => point.expected_quality !== null);
  if (known.length > 0) {
    const points = known.map((point) => [point.share * 100, point.expected_quality * 100]);
    if (expected && share !== null) points.push([share * 100, expected.now * 100]);
    const measure = expected ? measureName(expected.measure) : "quality";
    const complete = expected && share !== null && share < 1 ? [100, (expected.complete ?? expected.now) * 100] : null;
    return ready({
      points, complete, x: "Embedded again (% of the gallery)", y: `Expected ${measure} (%)`, span: [0, 100],
      caption: `Expected quality of searches by ${version}, by the share of the gallery that it has embedded: what the certificates of the stored spaces say, not a measurement of this gallery. The dashed line leads to where everything is embedded again.`,
    });
  }
  const longest = Math.max(seconds ?? 0, ...curve.map((point) => point.seconds));
  const [unit, length] = longest < 300 ? ["seconds", 1] : longest < 18000 ? ["minutes", 60] : ["hours", 3600];
  const points = curve.map((point) => [point.seconds / length, point.share * 100]);
  if (share !== null) points.push([(seconds ?? 0) / length, share * 100]);
  return ready({
    points, x: `Time that it worked (${unit})`, y: "Embedded again (%)", span: [0, longest / length],
    caption: `Share of the gallery that ${version} has embedded. No quality is expected, because some stored space has no certificate with the live version's own figure.`,
  });
}

// Items that are deleted or stored meanwhile can take the share back, which a line shows as it was.
function ready(curve) {
  const distinct = new Set(curve.points.map((point) => point.join()));
  return distinct.size < 2 || curve.span[1] <= curve.span[0] ? null : curve;
}

export function drawCurve(place, { points, complete = null, x, y, span }) {
  const width = Math.max(place.clientWidth, 240);
  const [low, high] = range([...points, ...(complete ? [complete] : [])].map(([, value]) => value));
  const across = (value) => LEFT + ((value - span[0]) / (span[1] - span[0])) * (width - LEFT - RIGHT);
  const up = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const last = points.at(-1);
  const text = (content, attributes) => svg("text", attributes, content);
  const xTicks = ticks(span[0], span[1], (width - LEFT - RIGHT) / APART_X);
  const yTicks = ticks(low, high, (HEIGHT - TOP - BOTTOM) / APART_Y);
  const label = `${y}, from ${points[0][1].toFixed(1)} at ${points[0][0].toFixed(1)} to ${last[1].toFixed(1)} at ${last[0].toFixed(1)}; across: ${x}.`;
  place.replaceChildren(svg("svg", { class: "curve", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label },
    ...yTicks.flatMap((tick) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: up(tick), y2: up(tick) }),
      text(figure(tick), { x: LEFT - 8, y: up(tick) + 4, "text-anchor": "end" })]),
    ...xTicks.flatMap((tick) => [
      svg("line", { class: "axis", x1: across(tick), x2: across(tick), y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }),
      text(figure(tick), { x: across(tick), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" })]),
    svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    svg("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: HEIGHT - BOTTOM }),
    text(x, { class: "title", x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }),
    text(y, { class: "title", x: 2, y: 14 }),
    ...(complete ? [svg("line", { class: "ahead", x1: across(last[0]), y1: up(last[1]), x2: across(complete[0]), y2: up(complete[1]) })] : []),
    svg("polyline", { points: points.map(([one, other]) => `${across(one).toFixed(1)},${up(other).toFixed(1)}`).join(" ") }),
    svg("circle", { cx: across(last[0]), cy: up(last[1]), r: 4 })));
}

const figure = (value) => String(Number(value.toFixed(2)));

/** A range with air on both sides, within 0 and 100 per cent. */
function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const air = Math.max((most - least) * 0.12, 0.5);
  const low = Math.max(least - air, 0);
  return [low, Math.max(Math.min(most + air, 100), low + 1)];
}

/** Round values within a range, at most so many. */
function ticks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(tick);
  return found;
}
