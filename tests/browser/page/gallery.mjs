// What the page says of the gallery before anybody searches.

import assert from "node:assert/strict";

import { picture, state, tiles } from "../service.mjs";
import { checkAccess } from "./checks.mjs";
import { onPage } from "./session.mjs";

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
  assert.match(await page.locator("#results-status").textContent(), /^24 items, sampled across the classes/);
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
    photo("<b>".repeat(80), { class: "birds & <i>bees</i> ".repeat(20), thumbnail: PIXEL }),
    photo(7, {}, null),
  ] } }));
  await page.getByLabel("Show").selectOption("12");
  await page.getByText("5 items shown").waitFor();
  assert.equal(await page.locator("#tiles img").count(), 2);
  const placeholders = await page.locator("#tiles .neutral").allTextContents();
  assert.deepEqual(placeholders, ["a-very-long-file-name-of-a-holiday-picture-2026-07-14.jpegcats", "rex.pngdogs", "7no label"]);
  const spilt = await page.locator("#tiles .neutral").evaluateAll((all) => all.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth).length);
  assert.equal(spilt, 0, "no text leaves its tile");
  const squares = await page.locator("#tiles .tile > :first-child").evaluateAll((all) => all.map((each) => {
    const { width, height } = each.getBoundingClientRect();
    return Math.abs(width - height) < 2;
  }));
  assert.deepEqual(squares, [true, true, true, true, true], "a tile keeps its form");
  // Names of any length are text, and keep to a few lines; the whole is their title.
  const long = page.locator("#tiles .id .name").nth(3);
  assert.equal(await long.textContent(), "<b>".repeat(80));
  assert.equal(await long.getAttribute("title"), "<b>".repeat(80));
  const heights = await page.locator("#tiles .name").evaluateAll((all) => all.map((each) => each.getBoundingClientRect().height));
  assert.ok(heights.every((height) => height > 0 && height < 60), heights.join());
  await checkAccess(page, "own photos");
  await picture(page, "own-photos", "#search");
});
