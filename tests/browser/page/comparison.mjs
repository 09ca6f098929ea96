// The same query before and after an upgrade.

import assert from "node:assert/strict";

import { ask, picture, settled, state, tiles } from "../service.mjs";
import { checkAccess } from "./checks.mjs";
import { imageOf, onPage, SEARCHED } from "./session.mjs";

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
