// The web page of a gallery whose spaces are searched by all routes: dual, bridged and mapped beside own.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { checkAccess, checkSession } from "./page/checks.mjs";
import { ask, launch, openPage, picture, settled, state, tiles, writeKey } from "./service.mjs";

const at = process.env.PERENNIAL_TEST_ROUTES_URL;
if (!at) throw new Error("PERENNIAL_TEST_ROUTES_URL is not set; .ci/service-checks sets it");

const SEARCHED = "Most similar items";
const KINDS = { own: "own cosine", bridged: "cosine across a bridge", dual: "dual cosine", mapped: "cosine to the mapped vector" };

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

function onPage(name, options, body) {
  test(name, async () => {
    const session = await openPage(browser, { at, ...options });
    try {
      await body(session.page);
      checkSession(session, options);
    } finally {
      await session.close();
    }
  });
}

/** Text as a person reads it, without the narrow spaces between thousands. */
const read = async (locator) => (await locator.textContent()).replaceAll("\u202f", "");

/** The parts of a search, by route; all four are there. */
function byRoute(parts) {
  const found = Object.fromEntries(parts.map((part) => [part.route, part]));
  assert.deepEqual(Object.keys(found).sort(), ["bridged", "dual", "mapped", "own"]);
  return found;
}

/** Pictures to search with: of items of the demo's gallery, since those here have none. */
async function pictures() {
  const of = async (id) => {
    const { payload } = await state(`/gallery/items/${id}`);
    return Buffer.from(payload.thumbnail.split(",")[1], "base64");
  };
  return Promise.all([7, 42, 100, 250].map(of));
}

/** The hits of a picture, as the API gives them. */
async function found(bytes, more) {
  const form = new FormData();
  form.append("request", JSON.stringify({ limit: 24, ...more }));
  form.append("image", new Blob([bytes], { type: "image/png" }), "query.png");
  const { status, body } = await ask("POST", "/search", { at, form });
  assert.equal(status, 200, JSON.stringify(body));
  return body;
}

onPage("a promotion says how each space will be searched, and the page how it is", { admitted: false, expectedErrors: (text) => /status of 401/.test(text) }, async (page) => {
  const { live: before } = await state("/models", { at });
  const { left_out: leftOut, items } = await state("/gallery/stats", { at });
  assert.equal(leftOut.length, 3, "nothing leads from the first version to the others");
  const next = process.env.PERENNIAL_TEST_ROUTES_LIVE;
  await page.getByLabel("API key").fill(writeKey);
  await page.getByLabel("API key").blur();
  await page.waitForFunction(() => document.querySelectorAll("#swap-version option").length > 0);
  const lines = page.locator("#routes li");
  await lines.nth(3).waitFor();
  const left = (await lines.evaluateAll((all) => all.filter((line) => line.classList.contains("alarm")).map(({ textContent }) => textContent)));
  assert.equal(left.length, 3);
  for (const { space, reason } of leftOut) assert.ok(left.some((line) => line.includes(space) && line.includes(`not searched: ${reason}`)), left.join("\n"));

  await page.locator("#swap").getByLabel("Version").selectOption(next);
  await page.getByRole("button", { name: "Swap", exact: true }).click();
  const verdict = page.locator("#verdict");
  await verdict.getByText(`${next} is live, in place of ${before}.`).waitFor();
  const { parts } = await state("/gallery/stats", { at });
  const routes = byRoute(parts);
  const told = await read(verdict.getByRole("list", { name: "How this version searches the items" }));
  await page.waitForFunction((name) => document.getElementById("headline").textContent.endsWith(`searched by ${name}`), next);
  const shown = await read(page.locator("#routes"));
  for (const [route, { spaces, items: stored }] of Object.entries(routes)) {
    assert.equal(spaces.length, 1, route);
    const line = `${spaces[0]} ${stored} items by route ${route}: `;
    assert.ok(told.includes(line), `${line} is not in ${told}`);
    assert.ok(shown.includes(line), `${line} is not in ${shown}`);
    if (route === "own") continue;
    // Certificates hold what was measured, and the bounds of it.
    const { measure, value, low, high } = routes[route].expected[0];
    assert.equal(measure, "ncm");
    const percent = (fraction) => (fraction * 100).toFixed(1);
    const figure = `Expected, with 95 % intervals: accuracy by nearest class mean ${percent(value)} % (${percent(low)} to ${percent(high)} %), recall@1 `;
    assert.ok(shown.includes(figure), `${figure} is not in ${shown}`);
  }
  assert.equal(await page.locator("#routes .alarm").count(), 0, "nothing is left out any more");
  const dims = [...new Set(parts.map(({ dim }) => dim))].sort((one, other) => one - other);
  assert.equal(dims.length, 2, "spaces of two dimensions");
  const facts = await read(page.locator("#facts"));
  assert.ok(facts.includes(`Dimensions${dims.join(", ")}`), facts);
  // What certificates measured is not called unmeasured.
  const others = ["dual", "bridged", "mapped"].map((route) => routes[route].spaces[0]).sort();
  const summary = await read(page.locator("#compatibility-summary"));
  assert.ok(summary.includes(`reach the items of ${others.join(", ")} by other routes than own`), summary);
  assert.ok(!summary.includes("has not been measured"), summary);
  assert.equal(await read(page.locator("h1")), `${items} items from 4 spaces, searched by ${next}`);
  await checkAccess(page, "routes");
  await picture(page, "routes");
});

onPage("a picture finds items of every space, each hit with its route and what its score is", {}, async (page) => {
  const { parts } = await state("/gallery/stats", { at });
  const queries = await pictures();
  for (const [place, [route, { spaces: [space] }]] of Object.entries(byRoute(parts)).entries()) {
    const bytes = queries[place];
    await page.locator("#file").setInputFiles({ name: `${route}.png`, mimeType: "image/png", buffer: bytes });
    await page.waitForFunction((name) => document.getElementById("query-text").textContent === name, `Query: ${route}.png`);
    await settled(page, SEARCHED);
    // Of all spaces, in the order of the standard scores.
    const all = await tiles(page);
    const { hits } = await found(bytes);
    assert.deepEqual(all.map((tile) => tile.id), hits.map((hit) => hit.id), route);
    // Scores of several spaces come in no order: the figure that orders them stands on each hit.
    assert.deepEqual(all.map((tile) => tile.standard), hits.map((hit) => Number(hit.standard_score.toFixed(2))), route);
    for (const tile of all) {
      const part = parts.find(({ spaces }) => spaces.includes(tile.version));
      assert.deepEqual([tile.route, tile.kind], [part.route, KINDS[part.route]], tile.id);
    }
    const summary = await read(page.locator("#results-status"));
    for (const version of new Set(hits.map((hit) => hit.model_version))) {
      const { route: by } = parts.find(({ spaces }) => spaces.includes(version));
      const count = hits.filter((hit) => hit.model_version === version).length;
      assert.ok(summary.includes(`${count} from ${version}${by === "own" ? "" : ` by route ${by}`}`), summary);
    }
    assert.match(summary, /Ranked by/);
    const title = await page.locator("#tiles .route").nth(1).getAttribute("title");
    assert.match(title, /^Ranked by (how far this score is above|this score on the scale)/);

    // Of this space alone.
    await page.getByLabel("Embedded by").selectOption(space);
    await page.getByText(`24 items: 24 from ${space}`).waitFor();
    const alone = await tiles(page);
    const only = await found(bytes, { filter: { model_versions: [space] } });
    assert.deepEqual(alone.map((tile) => tile.id), only.hits.map((hit) => hit.id), route);
    assert.ok(alone.every((tile) => tile.route === route && tile.kind === KINDS[route]), route);
    assert.ok(alone.every(({ score }, place) => Math.abs(score - only.hits[place].score) <= 0.0006), "scores as the API says");
    await page.getByLabel("Embedded by").selectOption("");
    await settled(page, SEARCHED);
  }
  await picture(page, "search-by-routes");
});

onPage("an item takes no dual route, and the page says what it leaves out", {}, async (page) => {
  const { parts } = await state("/gallery/stats", { at });
  const { own, dual } = byRoute(parts);
  await page.getByLabel("Embedded by").selectOption(own.spaces[0]);
  await page.locator("#tiles .tile").first().waitFor();
  await page.waitForFunction((name) => [...document.querySelectorAll("#tiles .badge")].every(({ textContent }) => textContent.includes(name)), own.spaces[0]);
  await page.locator("#tiles button").first().click();
  await settled(page, SEARCHED);
  await page.getByLabel("Embedded by").selectOption("");
  await page.waitForFunction((name) => document.getElementById("results-status").textContent.includes(`not searched: ${name}`), dual.spaces[0]);
  const summary = await read(page.locator("#results-status"));
  assert.ok(summary.includes(`${dual.items} items not searched: ${dual.spaces[0]} (`), summary);
  assert.ok(!(await tiles(page)).some(({ route }) => route === "dual"));
  await picture(page, "item-without-dual", "#search");
});

onPage("four spaces and their routes fit a phone", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page) => {
  await page.locator("#routes li").nth(3).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
  await checkAccess(page, "routes on a phone");
  await picture(page, "routes-phone");
});
