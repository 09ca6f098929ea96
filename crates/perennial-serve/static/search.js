// Search by image or by item, and browsing when nothing is searched.

import { encode, explain, get, isOutage, patiently, post, technical } from "./api.js";
import { summaryOf } from "./answers.js";
import { badge } from "./badges.js";
import { comparedVersion, hideComparison, showComparison, startComparison } from "./compare.js";
import { button, byId, counted, detail, element, problem } from "./elements.js";
import { explainSearch } from "./refusals.js";
import { pictureOf, thumbnail, tile } from "./tiles.js";

/** `null`, `{ file, url }`, `{ text }` or `{ item }`. */
let query = null;
let running = null;
let next = null;
let inOrder = false;
let accepts = ["image"];
let onOutage = () => {};
let onVersion = () => {};

/** `outage` is called with an error that concerns the whole page, `embeddedBy` with the version that embedded a query image. */
export function startSearch(outage, embeddedBy) {
  onOutage = outage;
  onVersion = embeddedBy;
  const file = byId("file");
  byId("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length > 0) searchImage(file.files[0]);
    file.value = "";
  });
  byId("clear").addEventListener("click", () => {
    setQuery(null);
    inOrder = false;
    refresh();
    byId("choose").focus();
  });
  byId("by-text").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("text").value.trim();
    if (words !== "") searchText(words);
  });
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    refresh();
  });
  byId("filters").addEventListener("change", () => refresh());
  byId("more").addEventListener("click", () => {
    inOrder = true;
    browse(next);
  });
  startComparison();
  listenForImages();
  refresh();
}

/** What the live version embeds: `image`, `text` or both; nothing where none is live. */
export function offerInputs(kinds) {
  accepts = kinds;
  byId("choose").hidden = !kinds.includes("image");
  byId("by-text").hidden = !kinds.includes("text");
  if (query === null) byId("query-text").textContent = invitation();
}

function invitation() {
  const [images, texts] = ["image", "text"].map((kind) => accepts.includes(kind));
  if (accepts.length === 0) return "No version is live that could embed a query. Click an item below to search with it.";
  if (images && texts) return "Drop an image here, paste one, type a text, or click an item below.";
  return texts ? "Type a text, or click an item below." : "Drop an image here, paste one, or click an item below.";
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

const options = (item) => ({ search: searchItem, isQuery: query?.item?.id === item.id });
const tilesOf = (items) => items.map((item) => tile(item, options(item)));

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
    showProblem("This is not an image. Choose a PNG, JPEG, WebP, GIF, BMP or TIFF file.");
    return;
  }
  if (!accepts.includes("image")) {
    showProblem(accepts.length === 0 ? "No version is live that could embed this image." : "The live version embeds texts, not images. Type what you look for.");
    return;
  }
  setQuery({ file, url: URL.createObjectURL(file) });
  search(false);
}

function searchText(words) {
  setQuery({ text: words });
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
    text.textContent = invitation();
  } else if (value.file) {
    const shown = element("img", { src: value.url, alt: "Query image" });
    // A file that is no picture, or of a kind that the browser does not draw; the server may still read it.
    shown.addEventListener("error", () => shown.replaceWith(element("span", { class: "neutral" }, "no preview")));
    picture.replaceChildren(shown);
    text.textContent = `Query: ${value.file.name || "pasted image"}`;
  } else if (value.text) {
    picture.hidden = true;
    picture.replaceChildren();
    text.textContent = `Query: “${value.text}”`;
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
    const answer = await send(signal, waiting);
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
  const version = comparedVersion();
  if (version && (query.file || query.text || pictureOf(query.item))) return compare(version);
  hideComparison();
  const send = (signal, waiting) => patiently(() => post("/search", { ...searchBody(force), signal }), waiting, signal);
  return attempt(send, showHits, (error) => {
    byId("tiles").replaceChildren();
    byId("results-status").textContent = "";
    // The same file would be refused again.
    const useless = Boolean(query?.file) && [413, 415, 422].includes(error.status);
    const retry = useless ? button("Choose another image…", () => byId("file").click()) : button("Try again", () => search(force));
    if (error.code === "incompatible_version" && !force) {
      showProblem(explainSearch(error), button("Search all the same", () => search(true)), detail(technical(error)));
    } else {
      showFailure(error, retry);
    }
  });
}

// Both versions must embed the query, so an item is asked for by its picture. A version that cannot answer leaves the other's answer.
function compare(version) {
  const outcome = (body, signal, waiting) => patiently(() => post("/search", { ...body, signal }), waiting, signal).then(
    (answer) => ({ answer }),
    (error) => {
      if (signal.aborted || isOutage(error)) throw error;
      return { error };
    });
  const ask = (signal, waiting) => Promise.all([
    outcome(inputBody({ as_version: version }), signal, waiting),
    outcome(inputBody({}), signal, waiting),
  ]);
  return attempt(ask, ([other, current]) => {
    if (!query.item && current.answer) onVersion(current.answer.model_version);
    byId("results-status").textContent = query.item ? "The item's picture is the query, since both versions must embed it." : "";
    showComparison(version, other, current, options);
  }, (error) => {
    hideComparison();
    byId("tiles").replaceChildren();
    byId("results-status").textContent = "";
    showFailure(error, button("Try again", () => search(false)));
  });
}

function searchOptions() {
  const { version, label } = filter();
  const chosen = { limit: limit(), exact: byId("filter-exact").checked, filter: {} };
  if (version) chosen.filter.model_versions = [version];
  if (label) chosen.filter.labels = { any_of: [Number(label)], from: null, to: null };
  return chosen;
}

function searchBody(force) {
  const more = force ? { force: true } : {};
  return query.file || query.text ? inputBody(more) : { json: { id: query.item.id, ...searchOptions(), ...more } };
}

function inputBody(more) {
  const request = { ...searchOptions(), ...more };
  if (query.text) return { json: { text: query.text, ...request } };
  if (!query.file) return { json: { image: pictureOf(query.item), ...request } };
  const form = new FormData();
  form.append("request", encode(request));
  form.append("image", query.file, query.file.name || "image");
  return { form };
}

function showHits(answer) {
  if (query.file || query.text) onVersion(answer.model_version);
  byId("tiles").replaceChildren(...tilesOf(answer.hits));
  const compares = comparedVersion() ? " There is no comparison, since this item has no picture that both versions could embed." : "";
  byId("results-status").textContent = summaryOf(answer, Boolean(query.item)) + compares;
}

// The first page is a sample of all classes: in the order of ids, it would often show a single one.
function browse(after) {
  byId("results-title").textContent = "Gallery";
  if (after === null) byId("results-status").textContent = "Loading";
  const { version, label } = filter();
  const sampled = !inOrder && !label;
  const parameters = new URLSearchParams({ limit: String(limit()) });
  if (sampled) parameters.set("sample", "true");
  // Quotation marks keep a text of digits a text.
  if (after !== null) parameters.set("after", typeof after === "string" ? JSON.stringify(after) : String(after));
  if (version) parameters.set("model_version", version);
  if (label) parameters.set("label", label);
  hideComparison();
  const send = (signal, waiting) => patiently(() => get(`/gallery/items?${parameters}`, { signal }), waiting, signal);
  return attempt(send, (page) => showPage(page, after, sampled), (error) => {
    if (after === null) {
      byId("tiles").replaceChildren();
      byId("more").hidden = true;
    }
    byId("results-status").textContent = "";
    showFailure(error, button("Try again", () => browse(after)));
  });
}

function showPage({ items, next: following }, after, sampled) {
  const list = byId("tiles");
  const tiles = tilesOf(items);
  if (after === null) list.replaceChildren(...tiles);
  else list.append(...tiles);
  next = following ?? null;
  const more = byId("more");
  const ended = sampled ? items.length < limit() : next === null;
  // The focus must not vanish with the button after the last page.
  if (ended && document.activeElement === more) tiles[0]?.querySelector("button").focus();
  more.hidden = ended;
  more.textContent = sampled ? "Show all items in order" : "Show more";
  const { version, label } = filter();
  const count = counted(list.childElementCount, "item");
  if (list.childElementCount > 0) {
    byId("results-status").textContent = sampled && !ended
      ? `${count}, sampled across the classes. Click one to search with it.`
      : `${count} shown. Click one to search with it.`;
  } else if (version || label) {
    byId("results-status").textContent = "No item passes these filters.";
  } else {
    byId("results-status").replaceChildren("The gallery is empty. ", element("code", {}, "perennial gallery add"), " stores pictures, texts or embeddings; the ",
      element("a", { href: "/docs" }, "API documentation"), " says how programs do.");
  }
}

function showProblem(message, ...buttons) {
  byId("results-problem").replaceChildren(problem(message, ...buttons));
}

function showFailure(error, retry) {
  if (!isOutage(error)) {
    showProblem(explain(error), retry, detail(technical(error)));
    return;
  }
  // One message at the top of the page is enough, which may be out of sight from here.
  onOutage(error);
  byId("results-status").textContent = "No answer. The top of the page says why.";
}
