// The matrix of measured pairs, and the list of versions.

import assert from "node:assert/strict";

import { picture, state } from "../service.mjs";
import { onPage } from "./session.mjs";

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
