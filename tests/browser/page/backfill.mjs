// A backfill as the page shows it, and as it is steered there.

import assert from "node:assert/strict";

import { ask, picture, state, writeKey } from "../service.mjs";
import { checkAccess } from "./checks.mjs";
import { onPage } from "./session.mjs";

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
