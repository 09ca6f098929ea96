// A test with a page of its own, in the browser that all tests of the page share.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ask, launch, openPage, state } from "../service.mjs";
import { checkSession } from "./checks.mjs";

export const SEARCHED = "Most similar items";

export let browser;
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
export function onPage(name, options, body) {
  test(name, async () => {
    const session = await openPage(browser, options);
    try {
      await body(session.page, session);
      checkSession(session, options);
    } finally {
      await session.close();
    }
  });
}

/** The image file behind an item's thumbnail. */
export async function imageOf(id) {
  const { payload } = await state(`/gallery/items/${id}`);
  return Buffer.from(payload.thumbnail.split(",")[1], "base64");
}
