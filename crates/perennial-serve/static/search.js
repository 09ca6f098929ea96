// Search by image or by item, and browsing when nothing is searched.

import { encode, explain, get, patiently, post } from "./api.js";
import { badge, versionClass } from "./badges.js";
import { button, byId, counted, element, milliseconds, problem, spoken } from "./elements.js";

const THUMBNAIL = /^data:image\/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}$/;

/** `null`, `{ file, url }` or `{ item }`. */
let query = null;
let running = null;
let next = null;
let askForKey = () => {};
let onVersion = () => {};

/** `keyNeeded` is called to ask for a key, `embeddedBy` with the version that embedded a query image. */
export function startSearch(keyNeeded, embeddedBy) {
  askForKey = keyNeeded;
  onVersion = embeddedBy;
  const file = byId("file");
  byId("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length > 0) searchImage(file.files[0]);
    file.value = "";
  });
  byId("clear").addEventListener("click", () => {
    setQuery(null);
    refresh();
    byId("choose").focus();
  });
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    refresh();
  });
  byId("filters").addEventListener("change", () => refresh());
  byId("more").addEventListener("click", () => browse(next));
  listenForImages();
  refresh();
}

/** The versions that the filter offers. */
export function offerVersions(names) {
  const select = byId("filter-version");
  const chosen = select.value;
  select.replaceChildren(element("option", { value: "" }, "any version"), ...names.map((name) => element("option", { value: name }, name)));
  select.value = names.includes(chosen) ? chosen : "";
}

export function refresh() {
  const label = byId("filter-label");
  if (!label.reportValidity()) return;
  if (query === null) browse(null);
  else search(false);
}

// A drop beside the field would otherwise leave the page for the image.
function listenForImages() {
  let depth = 0;
  const shown = (over) => byId("drop").classList.toggle("over", over);
  const withFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!withFiles(event)) return;
    depth += 1;
    shown(true);
  });
  addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    shown(depth > 0);
  });
  addEventListener("dragover", (event) => {
    if (withFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    depth = 0;
    shown(false);
    if (!withFiles(event)) return;
    event.preventDefault();
    searchImage(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) searchImage(file);
  });
}

function searchImage(file) {
  if (!file?.type.startsWith("image/")) {
    showProblem("This is not an image. Choose a PNG or JPEG file.");
    return;
  }
  setQuery({ file, url: URL.createObjectURL(file) });
  search(false);
}

function searchItem(item) {
  setQuery({ item });
  // The tile that had the focus is about to go.
  byId("results-title").focus();
  search(false);
}

function setQuery(value) {
  if (query?.url) URL.revokeObjectURL(query.url);
  query = value;
  const picture = byId("query-picture");
  picture.hidden = value === null;
  byId("clear").hidden = value === null;
  const text = byId("query-text");
  if (value === null) {
    picture.replaceChildren();
    text.textContent = "Drop an image here, paste one, or click an item below.";
  } else if (value.file) {
    picture.replaceChildren(element("img", { src: value.url, alt: "Query image" }));
    text.textContent = `Query: ${value.file.name || "pasted image"}`;
  } else {
    picture.replaceChildren(thumbnail(value.item));
    text.replaceChildren(`Query: item ${value.item.id}, embedded by `, badge(value.item.model_version));
  }
}

function filter() {
  const version = byId("filter-version").value;
  const label = byId("filter-label").value.trim();
  return { version, label };
}

const limit = () => Number(byId("filter-limit").value);

function restart() {
  running?.abort();
  running = new AbortController();
  byId("tiles").setAttribute("aria-busy", "true");
  byId("results-problem").replaceChildren();
  return running.signal;
}

async function attempt(send, show, failed) {
  const signal = restart();
  const waiting = (wait) => {
    byId("results-status").textContent = `The server is busy. Sending again in ${wait} s.`;
  };
  try {
    const answer = await patiently(() => send(signal), waiting, signal);
    if (!signal.aborted) show(answer);
  } catch (error) {
    if (!signal.aborted) failed(error);
  } finally {
    if (!signal.aborted) byId("tiles").removeAttribute("aria-busy");
  }
}

function search(force) {
  byId("results-title").textContent = "Most similar items";
  byId("results-status").textContent = "Searching";
  byId("more").hidden = true;
  return attempt((signal) => post("/search", { ...searchBody(force), signal }), showHits, (error) => {
    byId("tiles").replaceChildren();
    byId("results-status").textContent = "";
    const retry = button("Try again", () => search(force));
    if (error.code === "incompatible_version" && !force) {
      showProblem(explain(error), button("Search all the same", () => search(true)));
    } else {
      showFailure(error, retry);
    }
  });
}

function searchBody(force) {
  const { version, label } = filter();
  const options = { limit: limit(), exact: byId("filter-exact").checked, filter: {} };
  if (version) options.filter.model_versions = [version];
  if (label) options.filter.labels = { any_of: [Number(label)], from: null, to: null };
  if (force) options.force = true;
  if (!query.file) return { json: { id: query.item.id, ...options } };
  const form = new FormData();
  form.append("request", encode(options));
  form.append("image", query.file, query.file.name || "image");
  return { form };
}

function showHits({ model_version: version, hits, took_seconds: took }) {
  if (query.file) onVersion(version);
  const status = byId("results-status");
  byId("tiles").replaceChildren(...hits.map(tile));
  if (hits.length === 0) {
    status.textContent = "Nothing found. The gallery is empty, or the filters leave nothing.";
    return;
  }
  const shares = new Map();
  for (const hit of hits) shares.set(hit.model_version, (shares.get(hit.model_version) ?? 0) + 1);
  const mix = [...shares].sort(([a], [b]) => a.localeCompare(b)).map(([name, count]) => `${count} from ${name}`);
  status.textContent =
    `${counted(hits.length, "item")}: ${mix.join(", ")}. Query by ${version}, answered in ${milliseconds(took)}.`;
}

function browse(after) {
  byId("results-title").textContent = "Gallery";
  if (after === null) byId("results-status").textContent = "Loading";
  const { version, label } = filter();
  const parameters = new URLSearchParams({ limit: String(limit()) });
  // Quotation marks keep a text of digits a text.
  if (after !== null) parameters.set("after", typeof after === "string" ? JSON.stringify(after) : String(after));
  if (version) parameters.set("model_version", version);
  if (label) parameters.set("label", label);
  return attempt((signal) => get(`/gallery/items?${parameters}`, { signal }), (page) => showPage(page, after), (error) => {
    if (after === null) {
      byId("tiles").replaceChildren();
      byId("more").hidden = true;
    }
    byId("results-status").textContent = "";
    showFailure(error, button("Try again", () => browse(after)));
  });
}

function showPage({ items, next: following }, after) {
  const list = byId("tiles");
  const tiles = items.map(tile);
  if (after === null) list.replaceChildren(...tiles);
  else list.append(...tiles);
  next = following ?? null;
  const more = byId("more");
  // The focus must not vanish with the button after the last page.
  if (next === null && document.activeElement === more) tiles[0]?.querySelector("button").focus();
  more.hidden = next === null;
  const { version, label } = filter();
  if (list.childElementCount > 0) {
    byId("results-status").textContent = `${counted(list.childElementCount, "item")} shown. Click one to search with it.`;
  } else if (version || label) {
    byId("results-status").textContent = "No item passes these filters.";
  } else {
    byId("results-status").textContent = "The gallery is empty. Add images with perennial gallery add, or PUT /gallery/items.";
  }
}

function tile(item) {
  const parts = [];
  if (item.score !== undefined) parts.push(element("b", {}, spoken("Score "), item.score.toFixed(3)));
  parts.push(element("span", {}, item.label === null || item.label === undefined ? "no label" : `label ${item.label}`));
  const same = query?.item?.id === item.id;
  const inner = element("button", { type: "button", class: `tile ${versionClass(item.model_version)}`, onclick: () => searchItem(item) },
    thumbnail(item),
    element("span", { class: "caption" }, ...parts),
    element("span", { class: "id" }, spoken("Item "), String(item.id), same ? element("i", {}, "the query") : null),
    spoken("Embedded by "),
    badge(item.model_version));
  return element("li", {}, inner);
}

function thumbnail(item) {
  const source = item.payload?.thumbnail;
  const valid = typeof source === "string" && THUMBNAIL.test(source);
  return valid
    ? element("img", { src: source, alt: "", loading: "lazy" })
    : element("span", { class: "neutral", "aria-hidden": "true" }, "no preview");
}

function showProblem(text, ...buttons) {
  byId("results-problem").replaceChildren(problem(text, ...buttons));
}

function showFailure(error, retry) {
  if (error.status === 401) {
    showProblem(explain(error), button("Enter the key", askForKey));
  } else {
    showProblem(explain(error), retry);
  }
}
