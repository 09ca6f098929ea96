// The web page as a visitor meets it: what it shows agrees with the API, and everybody can use it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import axe from "axe-core";

import { ask, launch, openPage, picture, readKey, settled, state, tiles, writeKey } from "./service.mjs";

const SEARCHED = "Most similar items";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

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
  assert.equal(headline, `${items} items from ${Object.keys(stored).length} model versions, searched by ${live}`);
  const facts = await page.locator("#facts").textContent();
  assert.ok(facts.includes(`Live version${live}`) && facts.includes(`Previous version${previous}`), facts);
  const legend = (await page.locator("#composition-legend").textContent()).replaceAll("\u202f", "");
  for (const [version, count] of Object.entries(stored)) assert.ok(legend.includes(`${version} ${count}`), legend);
  assert.equal((await tiles(page)).length, 24);
});

onPage("a click on an item finds the most similar ones, each with the version that embedded it", {}, async (page) => {
  const clicked = (await tiles(page))[3].id;
  await page.locator("#tiles button").nth(3).click();
  await settled(page, SEARCHED);
  const found = await tiles(page);
  assert.equal(found.length, 24);
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

onPage("the matrix shows every measured pair and outlines the incompatible ones", {}, async (page) => {
  const { versions, pairs } = await state("/compatibility");
  // The ordinary service's pairs across its replacement never are; whether others are depends on how training went.
  assert.ok(pairs.some(({ compatible }) => !compatible), "the demo has incompatible pairs");
  const table = page.getByRole("table", { name: "Compatibility matrix" });
  const cells = await table.locator("tbody tr").evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll("td")].map((cell) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(cell);
    return { text: cell.textContent, outlined: outlineStyle !== "none" && parseFloat(outlineWidth) > 0 };
  })));
  assert.equal(cells.length, versions.length);
  const place = (version) => versions.indexOf(version);
  for (const pair of pairs) {
    const cell = cells[place(pair.query_version)][place(pair.gallery_version)];
    const name = `${pair.query_version} on ${pair.gallery_version}: ${cell.text}`;
    assert.ok(cell.text.includes((pair.cross_test * 100).toFixed(1)), name);
    assert.equal(cell.outlined, !pair.compatible, `${name}, outline`);
    assert.equal(cell.text.includes("incompatible"), !pair.compatible, `${name}, word`);
  }
  // The browser's own idea of the accessible names, for those who do not see the outline.
  const spoken = await table.getByRole("cell", { name: /incompatible/ }).count();
  assert.equal(spoken, pairs.filter(({ compatible }) => !compatible).length);
  assert.equal(cells.flat().filter(({ outlined }) => outlined).length, spoken);
  await picture(page, "matrix", "#compatibility");

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
  await enter(readKey);
  await page.waitForFunction(() => document.querySelectorAll("#swap-version option").length > 0);
  await page.getByLabel("API key").fill("");
  await page.locator("#swap").getByLabel("Version").selectOption(refused);
  await swap.click();
  await verdict.getByText("This needs the write key").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "key", "the field to fill has the focus");
  await enter(readKey);
  await swap.click();
  await verdict.getByText("This key may read but not write. Enter the write key.").waitFor();
  assert.equal(await liveNow(), live);

  await enter(writeKey);
  await swap.click();
  await verdict.getByText(`Refused: ${refused} does not go live. ${live} stays live.`).waitFor();
  const { body } = await ask("PUT", "/aliases/live", { json: { version: refused, dry_run: true } });
  const reasons = body.error.details.checks.filter(({ passed }) => !passed);
  assert.ok(reasons.length > 0);
  const failed = await verdict.locator("li.failed").allTextContents();
  assert.deepEqual(failed.sort(),
    reasons.map(({ name, detail }) => `✕Failed: ${name.replaceAll("_", " ")} ${detail}`).sort());
  for (const { detail } of reasons) assert.equal(await verdict.getByText(detail).count(), 1, "each reason once");
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

/** No violation that keeps people out, contrast of text among them. */
async function checkAccess(page, where) {
  // Evaluated from outside, because the page's policy admits no foreign script.
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], where);
  assert.ok(passes.some(({ id }) => id === "color-contrast"), `${where}: contrast was looked at`);
}
