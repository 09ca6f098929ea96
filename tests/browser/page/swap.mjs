// Moving the live version: the key that it takes, refusals in plain words, and the way back.

import assert from "node:assert/strict";

import { ask, picture, readKey, state, writeKey } from "../service.mjs";
import { checkAccess } from "./checks.mjs";
import { onPage } from "./session.mjs";

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
  await enter("not a key of this server");
  await page.getByText("The server does not know this key.", { exact: true }).waitFor();
  // Enter gives the key, and asks for no check of a version.
  await page.getByLabel("API key").fill(readKey);
  await page.getByLabel("API key").press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("#swap-version option").length > 0);
  assert.equal(await verdict.textContent(), "");
  await page.getByText("this page may read but not change anything", { exact: false }).waitFor();
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
  for (const command of body.error.details.remedies) assert.ok(technical.includes(`To measure the pair: ${command}`), technical);
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

onPage("where no version was live before, there is none to go back to", {}, async (page) => {
  const models = await state("/models");
  await page.route("**/models", (route) => route.fulfill({ json: { ...models, previous: null } }));
  await page.reload();
  await page.getByRole("button", { name: "Roll back", exact: true }).click();
  await page.locator("#verdict").getByText("No version was live before this one").waitFor();
});

onPage("where no version is live, the page asks for no query that nothing could embed", {}, async (page) => {
  const models = await state("/models");
  await page.route("**/models", (route) => route.fulfill({ json: { ...models, live: null, previous: null } }));
  await page.reload();
  await page.getByText("No version is live that could embed a query.").waitFor();
  assert.equal(await page.locator("#choose").isVisible(), false);
  await page.locator("#file").setInputFiles({ name: "query.png", mimeType: "image/png", buffer: Buffer.from("any") });
  await page.getByText("No version is live that could embed this image.").waitFor();
});
