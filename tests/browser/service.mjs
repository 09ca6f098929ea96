// The running service and the browser that the tests share.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; .ci/service-checks sets it`);
  return value;
}

export const url = required("PERENNIAL_TEST_URL");
export const readKey = required("PERENNIAL_TEST_READ_KEY");
export const writeKey = required("PERENNIAL_TEST_WRITE_KEY");
/** The file `report.html` of a run of the demo. */
export const reportFile = required("PERENNIAL_TEST_REPORT");

/** Nothing that talks to anybody but the page, and nothing that needs a display or privileges. */
const SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

/** Generous, because the machine may be busy: what is waited for either comes or never does. */
const PATIENCE = 60_000;

export const launch = () => chromium.launch({
  executablePath: process.env.PERENNIAL_TEST_CHROMIUM ?? "/usr/bin/chromium", args: SWITCHES, timeout: PATIENCE,
});

/** A request past the page, with the write key, to the service `at` an address. */
export async function ask(method, path, { json, form, at = url } = {}) {
  const headers = { authorization: `Bearer ${writeKey}` };
  if (json !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(new URL(path, at), { method, headers, body: json === undefined ? form : JSON.stringify(json) });
  return { status: response.status, version: response.headers.get("x-model-version"), body: await response.json() };
}

export async function state(path, { at = url } = {}) {
  const { status, body } = await ask("GET", path, { at });
  assert.equal(status, 200, path);
  return body;
}

/**
 * The page in a browser profile of its own, with the lists of what it logged as an error (`errors`) and of what it asked other
 * origins for (`strangers`). With `admitted`, every request carries the read key, so that the page works as on a service that
 * asks for none; without, the visitor has no key yet. The page is that of the service `at` an address.
 */
export async function openPage(browser, { admitted = true, at = url, ...options } = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 900 },
    extraHTTPHeaders: admitted ? { authorization: `Bearer ${readKey}` } : {},
    ...options,
  });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const errors = [];
  const strangers = [];
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && origin !== new URL(at).origin) strangers.push(request.url());
  });
  await page.goto(at);
  await page.waitForFunction(() => document.getElementById("headline").textContent !== "Loading");
  if (admitted) await page.waitForFunction(() => document.querySelector("#tiles .tile") && document.querySelector("#matrix table"));
  return { page, errors, strangers, close: () => context.close() };
}

/** Waits for the end of what the last action began. */
export async function settled(page, title) {
  await page.waitForFunction((expected) => document.getElementById("results-title").textContent === expected
    && !document.getElementById("tiles").hasAttribute("aria-busy"), title);
}

/**
 * The results as the page tells them to assistive technology: id, version, label, score, route, what the score is, and the standard score where it ranks. Where an item has no
 * picture, its number and label stand in the place of it.
 */
export async function tiles(page) {
  const names = await page.locator("#tiles button").evaluateAll((buttons) => buttons.map((button) => button.textContent));
  return names.map((name) => {
    const parts = /^(?:\d+(?:label \d+|no label))?(?:Score (-?\d\.\d{3}))?(?:label (\d+)|no label)Item (\S+?)(?:the query)?Embedded by (v\d+)(?:Route (own|bridged|dual|mapped))?(?:Score: (own cosine|cosine across a bridge|dual cosine|cosine to the mapped vector))?(?:Standard score ([+−]\d+\.\d\d))?$/.exec(name);
    assert.ok(parts, `a tile reads ${JSON.stringify(name)}`);
    const number = (part) => (part === undefined ? null : Number(part));
    return { score: number(parts[1]), label: number(parts[2]), id: /^\d+$/.test(parts[3]) ? Number(parts[3]) : parts[3], version: parts[4], route: parts[5] ?? null, kind: parts[6] ?? null, standard: parts[7] === undefined ? null : Number(parts[7].replace("−", "-")) };
  });
}

/** A picture of the page, in the folder that `PERENNIAL_TEST_SCREENSHOTS` names; none without it. */
export async function picture(page, name, selector) {
  const folder = process.env.PERENNIAL_TEST_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${name}.png`);
  if (selector) await page.locator(selector).screenshot({ path });
  else await page.screenshot({ path, fullPage: true });
}
