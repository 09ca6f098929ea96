// What every test of a page looks at, whichever service the page is of.

import assert from "node:assert/strict";
import axe from "axe-core";

/** Nothing went wrong unseen, but for errors that the test expects. */
export function checkSession({ errors, strangers }, { expectedErrors = () => false }) {
  assert.deepEqual(errors.filter((error) => !expectedErrors(error)), [], "errors on the console");
  assert.deepEqual(strangers, [], "requests to other origins");
}

/** No violation that keeps people out, contrast of text among them. */
export async function checkAccess(page, where) {
  // Evaluated from outside, because the page's policy admits no foreign script.
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document));
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), [], where);
  assert.ok(passes.some(({ id }) => id === "color-contrast"), `${where}: contrast was looked at`);
}
