// The web page of a service whose encoder embeds texts: a visitor types what to look for.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, picture, readKey, settled } from "./service.mjs";

const url = process.env.PERENNIAL_TEST_TEXT_URL;
if (!url) throw new Error("PERENNIAL_TEST_TEXT_URL is not set; .ci/service-checks sets it");

const headers = { authorization: `Bearer ${readKey}` };

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

async function search(body) {
  const request = { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(new URL("search", url), request);
  assert.equal(response.status, 200);
  return response.json();
}

test("a text that is typed finds what the API finds by it", async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, extraHTTPHeaders: headers });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#tiles .tile"));
  assert.equal(await page.locator("#query-text").textContent(), "Type a text, or click an item below.");
  assert.equal(await page.locator("#choose").isVisible(), false, "no button for pictures");

  const shown = [];
  for (const words of ["red rose", "the fern of winter"]) {
    await page.getByLabel("Search by text").fill(`  ${words} `);
    await page.getByLabel("Search by text").press("Enter");
    await settled(page, "Most similar items");
    await page.waitForFunction((text) => document.getElementById("query-text").textContent === text, `Query: “${words}”`);
    const names = await page.locator("#tiles button").evaluateAll((buttons) => buttons.map((button) => button.textContent));
    const { hits } = await search({ text: words, limit: names.length });
    assert.equal(names.length, 4, "as many as are stored");
    hits.forEach(({ id, score }, place) => {
      assert.ok(names[place].includes(`Item ${id}`), `place ${place}: ${names[place]} and ${id}`);
      assert.ok(names[place].includes(score.toFixed(3)), `place ${place}: ${names[place]} and ${score}`);
    });
    shown.push(names.join());
  }
  assert.notEqual(shown[0], shown[1], "another text, another answer");
  await page.locator("#file").setInputFiles({ name: "query.png", mimeType: "image/png", buffer: Buffer.from("any") });
  await page.getByText("The live version embeds texts, not images.").waitFor();
  assert.deepEqual(errors, [], "errors on the console");
  await picture(page, "search-by-text");
  await context.close();
});
