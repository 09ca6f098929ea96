// The web page as a visitor meets it: what it shows agrees with the API, and everybody can use it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import axe from "axe-core";

import { ask, launch, openPage, picture, readKey, reportFile, settled, state, tiles, writeKey } from "./service.mjs";

const SEARCHED = "Most similar items";

let browser;
before(async () => {
  browser = await launch();
  await promoteReplacement();
});
after(() => browser?.close());

/** Makes the demo's replacement live and has it embed every other item again, so that the gallery holds items of two versions. */
async function promoteReplacement() {
  const { aliases, live } = await state("/models");
  const replacement = aliases["simplex-3"];
  if (live === replacement) return;
  const { status, body } = await ask("PUT", "/aliases/live", { json: { version: replacement } });
  assert.equal(status, 200, JSON.stringify(body));
  const { items } = await state("/gallery/items?limit=1000");
  const again = items.filter((item, place) => place % 2 === 1)
    .map(({ id, label, payload }) => ({ id, label, payload, image: payload.thumbnail }));
  for (let start = 0; start < again.length; start += 100) {
    const answer = await ask("POST", "/gallery/items:batch", { json: { items: again.slice(start, start + 100) } });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
  }
}

/** A test with a page of its own, which ends with the check that nothing went wrong unseen. */
function onPage(name, options, body) {
  test(name, async () => {
    const session = await openPage(browser, options);
    try {
      await body(session.page, session);
      const { expectedErrors = () => false } = options;
      assert.deepEqual(session.errors.filter((error) => !expectedErrors(error)), [], "errors on the console");
      assert.deepEqual(session.strangers, [], "requests to other origins");
    } finally {
      await session.close();
    }
  });
}

/** The image file behind an item's thumbnail. */
async function imageOf(id) {
  const { payload } = await state(`/gallery/items/${id}`);
  return Buffer.from(payload.thumbnail.split(",")[1], "base64");
}

onPage("it loads and says what is stored", {}, async (page) => {
  const { live, previous } = await state("/models");
  const { items, per_version: stored } = await state("/gallery/stats");
  const headline = (await page.locator("h1").textContent()).replaceAll("\u202f", "");
  assert.equal(headline, `${items} items from ${Object.keys(stored).length} spaces, searched by ${live}`);
  const routes = (await page.locator("#routes").textContent()).replaceAll("\u202f", "");
  for (const version of Object.keys(stored)) assert.ok(routes.includes(version), routes);
  assert.ok(routes.includes(`${items} items by route own`), routes);
  const facts = await page.locator("#facts").textContent();
  assert.ok(facts.includes(`Live version${live}`) && facts.includes(`Previous version${previous}`), facts);
  const legend = (await page.locator("#composition-legend").textContent()).replaceAll("\u202f", "");
  for (const [version, count] of Object.entries(stored)) assert.ok(legend.includes(`${version} ${count}`), legend);
  assert.equal((await tiles(page)).length, 24);
});

onPage("the first screen shows items of every class", {}, async (page) => {
  const { items } = await state("/gallery/items?limit=1000");
  const classes = new Set(items.map(({ label }) => label));
  assert.ok(classes.size > 1 && classes.size <= 24, "the demo's gallery has few classes");
  assert.deepEqual(new Set((await tiles(page)).map(({ label }) => label)), classes);
  assert.match(await page.locator("#results-status").textContent(), /^24 items of all classes/);
  await picture(page, "first-screen");

  // In the order of ids, page by page, on request.
  await page.getByRole("button", { name: "Show all items in order" }).click();
  const ids = (count) => items.slice(0, count).map(({ id }) => id);
  await page.getByText("24 items shown").waitFor();
  assert.deepEqual((await tiles(page)).map(({ id }) => id), ids(24));
  await page.getByRole("button", { name: "Show more" }).click();
  await page.getByText("48 items shown").waitFor();
  assert.deepEqual((await tiles(page)).map(({ id }) => id), ids(48));
});

const PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

onPage("own photos show their thumbnail, or else the file's name and class", {}, async (page) => {
  const { live } = await state("/models");
  const photo = (id, payload, label = 3) => ({ id, model_version: live, label, payload });
  await page.route("**/gallery/items?*", (route) => route.fulfill({ json: { next: null, items: [
    photo("cats/tom.jpg", { file: "cats/tom.jpg", class: "cats", thumbnail: PIXEL }),
    photo("cats/a-very-long-file-name-of-a-holiday-picture-2026-07-14.jpeg", { file: "cats/a-very-long-file-name-of-a-holiday-picture-2026-07-14.jpeg", class: "cats" }),
    photo("dogs/rex.png", { file: "dogs/rex.png", class: "dogs", thumbnail: "https://example.org/rex.png" }),
    photo(7, {}, null),
  ] } }));
  await page.getByLabel("Show").selectOption("12");
  await page.getByText("4 items shown").waitFor();
  assert.equal(await page.locator("#tiles img").count(), 1);
  const placeholders = await page.locator("#tiles .neutral").allTextContents();
  assert.deepEqual(placeholders, ["a-very-long-file-name-of-a-holiday-picture-2026-07-14.jpegcats", "rex.pngdogs", "7no label"]);
  const spilt = await page.locator("#tiles .neutral").evaluateAll((all) => all.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth).length);
  assert.equal(spilt, 0, "no text leaves its tile");
  const squares = await page.locator("#tiles .tile > :first-child").evaluateAll((all) => all.map((each) => {
    const { width, height } = each.getBoundingClientRect();
    return Math.abs(width - height) < 2;
  }));
  assert.deepEqual(squares, [true, true, true, true], "a tile keeps its form");
  await checkAccess(page, "own photos");
  await picture(page, "own-photos", "#search");
});

onPage("a click on an item finds the most similar ones, each with the version that embedded it", {}, async (page) => {
  const clicked = (await tiles(page))[3].id;
  await page.locator("#tiles button").nth(3).click();
  await settled(page, SEARCHED);
  const found = await tiles(page);
  assert.equal(found.length, 24);
  assert.ok(found.every(({ route, kind }) => route === "own" && kind === "own cosine"));
  assert.equal(await page.locator("#tiles .route").nth(1).getAttribute("title"), "Ranked by this score.");
  for (const { id, version } of found) assert.equal((await state(`/gallery/items/${id}`)).model_version, version, `item ${id}`);
  const scores = found.map(({ score }) => score);
  assert.deepEqual(scores, [...scores].sort((a, b) => b - a), "best first");
  const itself = page.locator("#tiles .tile", { hasText: "the query" });
  assert.match(await itself.textContent(), new RegExp(`^Score 1\\.000.*Item ${clicked}the query`));
  const summary = await page.locator("#results-status").textContent();
  const { model_version: asked } = await state(`/gallery/items/${clicked}`);
  for (const version of new Set(found.map((hit) => hit.version))) {
    assert.ok(summary.includes(`${found.filter((hit) => hit.version === version).length} from ${version}`), summary);
  }
  assert.ok(summary.includes(`Query by ${asked}`), summary);
  await picture(page, "search-by-item");

  // Across versions: what one model embedded finds what another embedded.
  const { per_version: stored } = await state("/gallery/stats");
  const other = Object.keys(stored).find((version) => version !== asked);
  await page.getByLabel("Embedded by").selectOption(other);
  await page.getByText(`24 items: 24 from ${other}. Query by ${asked}`).waitFor();
  assert.ok((await tiles(page)).every(({ version }) => version === other));
  await picture(page, "search-across-versions", "#search");
  await page.getByRole("button", { name: /Clear/ }).click();
  await settled(page, "Gallery");
});

onPage("an image file finds what the API finds, chosen or dropped", {}, async (page) => {
  const { live } = await state("/models");
  const [first, second] = await Promise.all([7, 42].map(imageOf));
  const expected = async (bytes) => {
    const form = new FormData();
    form.append("request", JSON.stringify({ limit: 24 }));
    form.append("image", new Blob([bytes], { type: "image/png" }), "query.png");
    const { body, version } = await ask("POST", "/search", { form });
    assert.equal(version, live);
    return body.hits.map(({ id }) => id);
  };
  const ids = async () => (await tiles(page)).map(({ id }) => id);

  await page.locator("#file").setInputFiles({ name: "chosen.png", mimeType: "image/png", buffer: first });
  await settled(page, SEARCHED);
  assert.deepEqual(await ids(), await expected(first));
  assert.match(await page.locator("#results-status").textContent(), new RegExp(`Query by ${live}`));
  assert.equal(await page.locator("#query-text").textContent(), "Query: chosen.png");
  await picture(page, "search-by-image");

  await drop(page, "dropped.png", "image/png", second);
  await page.waitForFunction(() => document.getElementById("query-text").textContent === "Query: dropped.png");
  await settled(page, SEARCHED);
  assert.deepEqual(await ids(), await expected(second));

  await drop(page, "notes.txt", "text/plain", Buffer.from("not an image"));
  await page.getByText("This is not an image.").waitFor();
});

async function drop(page, name, type, bytes) {
  await page.evaluate(({ name, type, bytes }) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }, { name, type, bytes: [...bytes] });
}

/** Ids and marks of one side of a comparison. */
async function side(page, name) {
  return page.locator(`#${name}-tiles li`).evaluateAll((all) => all.map((each) => ({
    id: Number(/Item (\d+)/.exec(each.textContent)[1]), mark: each.querySelector(".change").textContent,
  })));
}

async function checkComparison(page, previous, live, bytes) {
  const found = async (more) => {
    const form = new FormData();
    form.append("request", JSON.stringify({ limit: 24, ...more }));
    form.append("image", new Blob([bytes], { type: "image/png" }), "query.png");
    const { status, body } = await ask("POST", "/search", { form });
    assert.equal(status, 200, JSON.stringify(body));
    return body.hits.map(({ id }) => id);
  };
  const [was, is] = [await found({ as_version: previous }), await found({})];
  const [before, after] = [await side(page, "before"), await side(page, "after")];
  assert.deepEqual(before.map(({ id }) => id), was);
  assert.deepEqual(after.map(({ id }) => id), is);
  after.forEach(({ id, mark }, place) => {
    const moved = was.indexOf(id) - place;
    if (!was.includes(id)) assert.match(mark, /^newNew: not found before/);
    else if (moved === 0) assert.match(mark, /^=/);
    else assert.ok(mark.startsWith(`${moved > 0 ? "\u25b2" : "\u25bc"} ${Math.abs(moved)}`), `${id}: ${mark}`);
  });
  for (const { id, mark } of before) assert.equal(mark.startsWith("gone"), !is.includes(id), `${id}: ${mark}`);
  const fresh = is.filter((id) => !was.includes(id)).length;
  assert.ok((await page.locator("#comparison-summary").textContent()).includes(`${fresh} new, ${was.filter((id) => !is.includes(id)).length} gone`));
  assert.match(await page.locator("#before-title").textContent(), new RegExp(`^Before: ${previous}`));
  assert.match(await page.locator("#after-title").textContent(), new RegExp(`^After: ${live} .live.`));
}

const notLoaded = { expectedErrors: (text) => /status of 403/.test(text) };

onPage("the same query before and after an upgrade, side by side", notLoaded, async (page) => {
  const { live, previous } = await state("/models");
  const bytes = await imageOf(7);
  await page.locator("#file").setInputFiles({ name: "query.png", mimeType: "image/png", buffer: bytes });
  await settled(page, SEARCHED);
  await page.getByLabel("Compare with").selectOption(previous);
  await page.locator("#after-tiles .change").first().waitFor();
  assert.equal(await page.locator("#tiles").isVisible(), false);
  await checkComparison(page, previous, live, bytes);
  const [left, right] = await page.locator("#before, #after").evaluateAll((all) => all.map((each) => each.getBoundingClientRect().left));
  assert.ok(left < right, "side by side");
  await checkAccess(page, "comparison");
  await picture(page, "compare", "#search");

  // A version that is not in memory takes the right to write, and the other answer stays.
  await page.route("**/search", async (route) => {
    if (!(route.request().postData() ?? "").includes("as_version")) return route.continue();
    return route.fulfill({ status: 403, json: { error: { code: "forbidden", message: "no", request_id: "1-a" } } });
  });
  await page.getByLabel("Show").selectOption("12");
  await page.getByText("This version is not in memory").waitFor();
  assert.equal(await page.locator("#after-tiles li").count(), 12);
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.getByLabel("Compare with").selectOption("");
  await page.locator("#tiles .tile").first().waitFor();
  assert.equal(await page.locator("#comparison").isVisible(), false);
});

onPage("a phone shows one side of a comparison at a time", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page) => {
  const { previous } = await state("/models");
  await page.locator("#tiles button").first().click();
  await settled(page, SEARCHED);
  await page.getByLabel("Compare with").selectOption(previous);
  await page.locator("#after-tiles .tile").first().waitFor();
  assert.match(await page.locator("#results-status").textContent(), /The item's picture is the query/);
  assert.equal(await page.locator("#before").isVisible(), false);
  await picture(page, "compare-phone", "#search");
  await page.getByRole("button", { name: /^Before/ }).click();
  assert.equal(await page.locator("#after").isVisible(), false);
  assert.equal(await page.locator("#before").isVisible(), true);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
  await checkAccess(page, "comparison on a phone");
});

/** A backfill as the service describes it. */
function backfillStatus(more) {
  const curve = Array.from({ length: 20 }, (_, index) => ({
    seconds: index * 30, done: index * 20, share: 0.5 + index * 0.02, expected_quality: 0.7 + index * 0.002 }));
  return {
    state: "running", waits_for_load: false, reason: null, model_version: "v0011", originals: "folder", order: "retrieved",
    items_per_second: null, stop: { share: null, items: null, seconds: null, quality: null }, items: 1000, share: 0.9, done: 400, left: 83,
    changed: 1, failed: { gone: 15, other_original: 2 }, failures: [{ id: "cats/tom.jpg", reason: "gone", detail: "the file is not there" }],
    rate_items_per_second: 0.7, seconds_left: 118.6, seconds: 571, expected_quality: { measure: "ncm", now: 0.74, complete: 0.75 }, curve, ...more,
  };
}

onPage("a backfill is shown with its curve, and pausing it takes the right to write", {}, async (page) => {
  let status = backfillStatus({});
  await page.route("**/backfill", (route) => route.fulfill({ json: status }));
  await page.reload();
  const section = page.locator("#backfill");
  await section.getByText("v0011 has embedded 90.0 % of 1\u202f000 items.").waitFor();
  const facts = await section.locator("#backfill-facts").textContent();
  for (const fact of ["Staterunning", "Embedded again400", "Left83", "Rate0.7 items per second", "Time left2 minutes", "74.0 %"]) assert.ok(facts.includes(fact), `${fact}: ${facts}`);
  await section.locator("svg.curve").waitFor();
  // Found and measured in one step: each status that arrives draws the curve anew, and a drawing that was replaced has no size.
  const drawn = await section.evaluate((all) => {
    const drawing = all.querySelector("svg.curve");
    return {
      texts: [...drawing.querySelectorAll("text")].map(({ textContent }) => textContent),
      outside: [...drawing.querySelectorAll("text")].filter((text) => {
        const [inner, outer] = [text.getBoundingClientRect(), drawing.getBoundingClientRect()];
        return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.height < 9;
      }).length,
      points: drawing.querySelector("polyline").getAttribute("points").split(" ").length,
    };
  });
  assert.equal(drawn.outside, 0, "every label is seen");
  assert.equal(drawn.points, 21, "the curve, and now");
  assert.ok(drawn.texts.some((text) => text.includes("(% of the gallery)")) && drawn.texts.some((text) => text.startsWith("Expected ")), drawn.texts.join());
  assert.ok((await section.textContent()).includes("not a measurement"));
  const rows = await section.locator("#backfill-skipped tbody tr").allTextContents();
  assert.equal(rows.length, 3);
  assert.match(rows[0], /^15There is no such original any more/);
  // This visitor's key may only read.
  await section.getByText("take a key with the right to write").waitFor();
  assert.equal(await section.getByRole("button", { name: "Pause" }).getAttribute("aria-disabled"), "true");
  await checkAccess(page, "backfill");
  await picture(page, "backfill", "#backfill");

  status = backfillStatus({ state: "paused", reason: "the disk is full", expected_quality: null, rate_items_per_second: null, seconds_left: null,
    curve: status.curve.map((point) => ({ ...point, expected_quality: null })) });
  await section.getByText("It is paused: the disk is full.").waitFor();
  assert.ok((await section.locator("svg.curve").textContent()).includes("Time that it worked"));
});

const openly = { admitted: false, expectedErrors: (text) => /status of 401/.test(text) };

onPage("with the right to write, a backfill is paused, resumed and stopped", openly, async (page) => {
  const began = await ask("POST", "/backfill", { json: { originals: "pushed" } });
  assert.equal(began.status, 200, JSON.stringify(began.body));
  const now = async () => (await state("/backfill")).state;
  await page.getByLabel("API key").fill(writeKey);
  await page.getByLabel("API key").blur();
  const section = page.locator("#backfill");
  await section.getByRole("button", { name: "Pause" }).click();
  await section.getByRole("button", { name: "Resume" }).waitFor();
  assert.equal(await now(), "paused");
  await section.getByRole("button", { name: "Resume" }).click();
  await section.getByRole("button", { name: "Pause" }).waitFor();
  assert.equal(await now(), "running");
  await section.getByRole("button", { name: "Stop" }).click();
  await section.getByRole("button", { name: "Keep it" }).click();
  assert.equal(await now(), "running");
  await section.getByRole("button", { name: "Stop" }).click();
  await section.getByRole("button", { name: "Stop it and forget" }).click();
  await section.getByText("There is none.").waitFor();
  assert.equal(await now(), "idle");
});

/** What a pair's interval says. */
function verdictOf({ interval }) {
  if (interval.low >= 0) return "compatible";
  return interval.high < 0 ? "incompatible" : "undecided";
}

onPage("the matrix opens on live and stored versions and shows every measured pair on request", {}, async (page) => {
  const { versions, pairs, stored } = await state("/compatibility");
  const { live } = await state("/models");
  // The ordinary service's pairs across its replacement never are; whether others are depends on how training went.
  assert.ok(pairs.some((pair) => verdictOf(pair) === "incompatible"), "the demo has incompatible pairs");
  const table = page.getByRole("table", { name: "Compatibility matrix" });
  const rows = () => table.locator("tbody tr").evaluateAll((all) => all.map((row) => [...row.querySelectorAll("td")].map((cell) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(cell);
    return { text: cell.textContent, outlined: outlineStyle !== "none" && parseFloat(outlineWidth) > 0, hatched: cell.classList.contains("hatched") };
  })));
  const check = (cells, names) => {
    assert.equal(cells.length, names.length);
    for (const pair of pairs) {
      const [row, column] = [names.indexOf(pair.query_version), names.indexOf(pair.gallery_version)];
      if (row < 0 || column < 0) continue;
      const cell = cells[row][column];
      const name = `${pair.query_version} on ${pair.gallery_version}: ${cell.text}`;
      const verdict = verdictOf(pair);
      assert.ok(cell.text.includes((pair.cross_test * 100).toFixed(1)), name);
      assert.equal(cell.outlined, verdict === "incompatible", `${name}, outline`);
      if (verdict !== "compatible") assert.ok(cell.text.includes(verdict), `${name}, word`);
      else assert.ok(!/incompatible|undecided/.test(cell.text), `${name}, word`);
    }
  };

  const opened = await table.locator("tbody th .badge").allTextContents();
  assert.ok(opened.includes(live) && Object.keys(stored).every((name) => opened.includes(name)), `it opens on ${opened}`);
  const measured = (query, gallery) => pairs.some((pair) => pair.query_version === query && pair.gallery_version === gallery);
  for (const name of opened.filter((each) => each !== live && !stored[each])) {
    assert.ok(Object.keys(stored).every((other) => measured(name, other)), `${name} was measured on everything that is stored`);
  }
  const first = await rows();
  check(first, opened);
  assert.ok(first.flat().every(({ hatched }) => !hatched), "nothing unmeasured between the first ones");
  // Records hold the self-test of the version that embedded the gallery, so the newest one may have none.
  for (const [place, name] of opened.entries()) {
    const record = pairs.find((pair) => pair.gallery_version === name);
    const { text } = first[place][place];
    if (record) assert.ok(text.includes((record.self_test * 100).toFixed(1)), `${name}: ${text}`);
    assert.ok(!text.includes("not measured"), `${name}: ${text}`);
  }
  await picture(page, "matrix", "#compatibility");

  await page.getByRole("button", { name: `Show all ${versions.length} versions` }).click();
  const cells = await rows();
  check(cells, versions);
  // The browser's own idea of the accessible names, for those who do not see the outline.
  const spoken = await table.getByRole("cell", { name: /incompatible/ }).count();
  assert.equal(spoken, pairs.filter((pair) => verdictOf(pair) === "incompatible").length);
  assert.equal(cells.flat().filter(({ outlined }) => outlined).length, spoken);
  await picture(page, "matrix-of-all", "#compatibility");

  const summary = await page.locator("#compatibility-summary").textContent();
  for (const word of ["compatible", "undecided", "incompatible"]) {
    const count = pairs.filter((pair) => verdictOf(pair) === word).length;
    if (count > 0) assert.match(summary, new RegExp(`\\b${count} ${word}`));
  }
  await page.getByText("All measured pairs").click();
  assert.equal(await page.locator("#pairs-table tbody tr").count(), pairs.length);
  const hidden = await page.locator("#pairs .scroll").evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth);
  assert.equal(hidden, 0, "all columns are seen on a wide screen");
});

onPage("versions are listed with their lineage", {}, async (page) => {
  const { models, live } = await state("/models");
  const rows = await page.locator("#lineage tbody tr").evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)));
  assert.equal(rows.length, models.length);
  models.forEach((model, place) => {
    const [name, parent, , method, stored] = rows[place];
    assert.ok(name.startsWith(model.name), name);
    assert.equal(name.includes("live"), model.name === live, name);
    assert.equal(parent, model.parent ?? "none");
    assert.equal(method, model.method);
    assert.equal(stored.replaceAll("\u202f", ""), String(model.stored_items));
  });
  const hidden = await page.locator("#lineage .scroll").evaluate(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth);
  assert.equal(hidden, 0, "all columns are seen on a wide screen");
  const cut = await page.locator("#lineage .tag").evaluateAll((all) => all.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth).map((tag) => [tag.textContent, tag.title]));
  assert.ok(cut.length > 0, "one version has a long name");
  for (const [name, title] of cut) assert.equal(title, name, "a name that is cut off can still be read");
  await picture(page, "versions", "#versions");
});

/** A version that may go live and one that may not, apart from the live one. */
async function candidates() {
  const { models, live } = await state("/models");
  let certified = null;
  let refused = null;
  for (const { name } of models.filter((model) => model.name !== live)) {
    const { status } = await ask("PUT", "/aliases/live", { json: { version: name, dry_run: true } });
    if (status === 200) certified = name;
    else refused = name;
  }
  assert.ok(certified && refused, "the demo has both kinds");
  return { live, certified, refused };
}

const refusals = { admitted: false, expectedErrors: (text) => /status of (401|403|409)/.test(text) };

onPage("a swap needs the write key, says why it refuses, and moves the live version", refusals, async (page) => {
  const { live, certified, refused } = await candidates();
  const verdict = page.locator("#verdict");
  const liveNow = async () => (await state("/models")).live;
  const enter = async (key) => {
    await page.getByLabel("API key").fill(key);
    await page.getByLabel("API key").blur();
  };
  const swap = page.getByRole("button", { name: "Swap", exact: true });

  assert.equal(await page.locator("h1").textContent(), "This server asks for a key");
  await page.locator(".problem").first().waitFor();
  assert.equal(await page.locator(".problem").count(), 1, "one error, one box");
  await enter(readKey);
  await page.waitForFunction(() => document.querySelectorAll("#swap-version option").length > 0);
  await page.getByLabel("API key").fill("");
  await page.locator("#swap").getByLabel("Version").selectOption(refused);
  await swap.click();
  await verdict.getByText("This needs a key with the right to write").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "key", "the field to fill has the focus");
  await enter(readKey);
  await swap.click();
  await verdict.getByText("This key may read but not write. Enter a key with the right to write.").waitFor();
  assert.equal(await liveNow(), live);

  await enter(writeKey);
  await swap.click();
  await verdict.getByText(`Refused: ${refused} does not go live. ${live} stays live.`).waitFor();
  const { body } = await ask("PUT", "/aliases/live", { json: { version: refused, dry_run: true } });
  const reasons = body.error.details.checks.filter(({ passed }) => !passed);
  assert.ok(reasons.length > 0);
  assert.equal(await verdict.locator("li.failed").count(), reasons.length, "each reason once");
  // For people: what it means and what they can do here. The server's words are folded away.
  const plain = await verdict.evaluate((node) => [...node.querySelectorAll("h3, li, .remedy")].map(({ textContent }) => textContent).join("\n"));
  assert.ok(!/force|perennial |`|--|>=|0\.\d{3}/.test(plain), plain);
  assert.match(plain, /Choose/);
  const detail = verdict.locator("details");
  assert.equal(await detail.getByText(reasons[0].detail).isVisible(), false);
  await detail.getByText("Technical detail").click();
  const technical = await detail.textContent();
  for (const { detail: said } of reasons) assert.ok(technical.includes(said), said);
  await detail.getByText("Technical detail").click();
  assert.equal(await liveNow(), live);
  await checkAccess(page, "after a refused swap");
  await picture(page, "refused-swap", "#swap");

  await page.locator("#swap").getByLabel("Version").selectOption(certified);
  await swap.click();
  await verdict.getByText(`${certified} is live, in place of ${live}.`).waitFor();
  await page.waitForFunction((name) => document.getElementById("headline").textContent.endsWith(`searched by ${name}`), certified);
  assert.equal(await liveNow(), certified);
  await page.locator("#versions").getByRole("row", { name: new RegExp(`^${certified}\\s*live`) }).waitFor();
  await picture(page, "swapped");

  await page.getByRole("button", { name: `Roll back to ${live}` }).click();
  await page.waitForFunction((name) => document.getElementById("headline").textContent.endsWith(`searched by ${name}`), live);
  assert.equal(await liveNow(), live);
});

const unreachable = { expectedErrors: (text) => /ERR_FAILED|status of 409/.test(text) };

onPage("one error is one message, in plain sentences", unreachable, async (page) => {
  const { live } = await state("/models");
  const message = "v0012 may not query embeddings of v0001: the pair was never measured; run `perennial evaluate` with both; set `force` to go ahead without a certificate";
  const refusal = { error: { code: "incompatible_version", message, request_id: "1-a", details: { pairs: [{ query_version: live, gallery_version: "v0001", reason: message }] } } };
  await page.route("**/search", (route) => route.fulfill({ status: 409, json: refusal }));
  await page.locator("#tiles button").first().click();
  const box = page.locator(".problem");
  await box.getByText(`It has not been measured how well ${live} finds items that v0001 stored.`).waitFor();
  assert.equal(await box.count(), 1);
  await box.getByRole("button", { name: "Search all the same" }).waitFor();
  const visible = () => box.evaluate((node) => node.innerText);
  assert.ok(!/force|perennial|`/.test(await visible()), await visible());
  await picture(page, "refused-search", "#search");
  await box.getByText("Technical detail").click();
  assert.ok((await visible()).includes("set `force`"), "the server's words are not lost");

  await page.unroute("**/search");
  for (const path of ["**/search", "**/gallery/**", "**/models", "**/compatibility", "**/stats/live"]) await page.route(path, (route) => route.abort());
  await page.getByRole("button", { name: /Clear/ }).click();
  await page.getByText("The server does not answer.", { exact: true }).waitFor();
  assert.equal(await page.locator(".problem").count(), 1, "the search says nothing of its own");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".problem").length === 0 && document.querySelector("#tiles .tile"));
});

onPage("the keyboard is enough", {}, async (page) => {
  const focus = () => page.evaluate(() => {
    const { activeElement: element } = document;
    const style = getComputedStyle(element);
    return { id: element.id, tag: element.tagName, tile: element.classList.contains("tile"), text: element.textContent.trim(),
      outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
  });
  await page.keyboard.press("Tab");
  assert.equal((await focus()).text, "Skip to search");
  await page.keyboard.press("Enter");
  assert.equal((await focus()).id, "search");
  let steps = 0;
  while (!(await focus()).tile) {
    await page.keyboard.press("Tab");
    const { tag, text, outlined } = await focus();
    assert.notEqual(tag, "BODY", "the focus left the page before it came to an item");
    assert.ok(outlined, `the focus on ${tag} ${JSON.stringify(text)} is not seen`);
    steps += 1;
    assert.ok(steps < 20, "twenty steps, and no item");
  }
  await page.keyboard.press("Enter");
  await settled(page, SEARCHED);
  assert.equal((await focus()).id, "results-title", "the focus stays at the results");
  assert.equal((await tiles(page)).length, 24);
  await page.keyboard.press("Tab");
  assert.ok((await focus()).tile, "the next step is the first result");
});

test("dark and light differ, and both can be read", async () => {
  const grounds = [];
  for (const colorScheme of ["light", "dark"]) {
    const { page, errors, close } = await openPage(browser, { colorScheme });
    await page.locator("#tiles button").first().click();
    await settled(page, SEARCHED);
    await page.getByText("All measured pairs").click();
    grounds.push(await page.evaluate(() => [document.body, document.querySelector("section")].map((each) => getComputedStyle(each).backgroundColor).join()));
    await checkAccess(page, `${colorScheme} scheme`);
    await picture(page, colorScheme);
    assert.deepEqual(errors, []);
    await close();
  }
  assert.notEqual(grounds[0], grounds[1]);
});

onPage("a narrow screen needs no sideways scrolling", { viewport: { width: 320, height: 800 } }, async (page) => {
  await page.locator("#tiles button").first().click();
  await settled(page, SEARCHED);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 320);
  await checkAccess(page, "narrow screen");
  await picture(page, "narrow");
});

onPage("a phone shows the whole page", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page) => {
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
  await checkAccess(page, "phone");
  await picture(page, "phone");
});

onPage("a space with a long name stays in its place on a phone", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }, async (page) => {
  const { per_version: items } = await state("/gallery/stats");
  const stored = Object.keys(items).sort((one, other) => items[other] - items[one])[0];
  const long = "text-embedding-of-another-program-reduced-to-1024-dimensions";
  await page.route(({ pathname }) => pathname !== "/" && !/\.(css|js)$/.test(pathname), async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: (await response.text()).replaceAll(`"${stored}"`, `"${long}"`) });
  });
  await page.reload();
  await page.locator(`#tiles .badge[title="${long}"]`).first().waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 390);
  await picture(page, "long-name");
  await page.unrouteAll({ behavior: "ignoreErrors" });
});

test("the report shows everything on a phone and on a wide screen", async () => {
  for (const [name, width] of [["report", 1280], ["report-phone", 390]]) {
    const context = await browser.newContext({ viewport: { width, height: 844 } });
    const page = await context.newPage();
    await page.goto(`file://${reportFile}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width, name);
    await page.locator("details").evaluateAll((all) => all.forEach((each) => each.setAttribute("open", "")));
    const clipped = await page.locator(".scroll, svg").evaluateAll((all) => all
      .filter(({ scrollWidth, clientWidth, tagName }) => tagName === "DIV" && scrollWidth > clientWidth)
      .map((each) => each.getAttribute("aria-label") ?? each.getAttribute("aria-labelledby")));
    assert.deepEqual(clipped, [], `${name}: nothing has to be scrolled sideways`);
    const curve = await page.locator("svg.curve:visible").evaluateAll((all) => all.map((each) => {
      const { left, right } = each.getBoundingClientRect();
      const texts = [...each.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
      return { left, right, outside: texts.filter((text) => text.left < 0 || text.right > innerWidth || text.height < 9).length };
    }));
    assert.equal(curve.length, 1, `${name}: one drawing of the curve`);
    assert.ok(curve[0].left >= 0 && curve[0].right <= width && curve[0].outside === 0, `${name}: ${JSON.stringify(curve)}`);
    const facts = await page.locator(".facts").textContent();
    for (const fact of ["Run", "Method", "Seed", "Measured"]) assert.ok(facts.includes(fact), facts);
    await checkAccess(page, name);
    await picture(page, name);
    await context.close();
  }
});

/** No violation that keeps people out, contrast of text among them. */
async function checkAccess(page, where) {
  // Evaluated from outside, because the page's policy admits no foreign script.
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], where);
  assert.ok(passes.some(({ id }) => id === "color-contrast"), `${where}: contrast was looked at`);
}
