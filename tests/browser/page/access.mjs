// Everybody can use the page: by keyboard, in the dark, on a phone; and the report of a run.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openPage, picture, reportFile, settled, state, tiles } from "../service.mjs";
import { checkAccess } from "./checks.mjs";
import { browser, onPage, SEARCHED } from "./session.mjs";

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
