// Searches by an item and by a picture, and what is said where one fails.

import assert from "node:assert/strict";

import { ask, picture, settled, state, tiles } from "../service.mjs";
import { imageOf, onPage, SEARCHED } from "./session.mjs";

onPage("a click on an item finds the most similar ones, each with the version that embedded it", {}, async (page) => {
  const clicked = (await tiles(page))[3].id;
  await page.locator("#tiles button").nth(3).click();
  await settled(page, SEARCHED);
  const found = await tiles(page);
  assert.equal(found.length, 24);
  assert.ok(found.every(({ route, kind }) => route === "own" && kind === "own cosine"));
  assert.equal(await page.locator("#tiles .route").nth(1).getAttribute("title"), "Ranked by this score.");
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

const unreachable = { expectedErrors: (text) => /ERR_FAILED|status of 409/.test(text) };

onPage("one error is one message, in plain sentences", unreachable, async (page) => {
  const { live } = await state("/models");
  const message = "v0012 may not query embeddings of v0001: the pair was never measured; run `perennial evaluate` with both; set `force` to go ahead without a certificate";
  const refusal = { error: { code: "incompatible_version", message, request_id: "1-a", details: { pairs: [{ query_version: live, gallery_version: "v0001", reason: message }] } } };
  await page.route("**/search", (route) => route.fulfill({ status: 409, json: refusal }));
  await page.locator("#tiles button").first().click();
  const box = page.locator(".problem");
  await box.getByText(`It has not been measured how well ${live} finds items that v0001 stored.`).waitFor();
  assert.equal(await box.count(), 1);
  await box.getByRole("button", { name: "Search all the same" }).waitFor();
  const visible = () => box.evaluate((node) => node.innerText);
  assert.ok(!/force|perennial|`/.test(await visible()), await visible());
  await picture(page, "refused-search", "#search");
  await box.getByText("Technical detail").click();
  assert.ok((await visible()).includes("set `force`"), "the server's words are not lost");

  await page.unroute("**/search");
  for (const path of ["**/search", "**/gallery/**", "**/models", "**/compatibility", "**/stats/live"]) await page.route(path, (route) => route.abort());
  await page.getByRole("button", { name: /Clear/ }).click();
  await page.getByText("The server does not answer.", { exact: true }).waitFor();
  assert.equal(await page.locator(".problem").count(), 1, "the search says nothing of its own");
  await page.getByText("No answer. The top of the page says why.").waitFor();
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.getByRole("button", { name: "Try again" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".problem").length === 0 && document.querySelector("#tiles .tile"));
});

onPage("a picture that the server does not take is not sent again", { expectedErrors: (text) => /status of 422|ERR_/.test(text) }, async (page) => {
  const sent = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/search")) sent.push(request);
  });
  await page.locator("#file").setInputFiles({ name: "<img src=x onerror=alert(1)>.png", mimeType: "image/png", buffer: Buffer.from("not a picture") });
  const box = page.locator("#results-problem .problem");
  await box.getByText("it may be damaged").waitFor();
  assert.equal(await page.locator("#query-text").textContent(), "Query: <img src=x onerror=alert(1)>.png");
  await page.locator("#query-picture").getByText("no preview").waitFor();
  assert.equal(await box.getByRole("button", { name: "Try again" }).count(), 0);
  const chooser = page.waitForEvent("filechooser");
  await box.getByRole("button", { name: "Choose another image…" }).click();
  await chooser;
  assert.equal(sent.length, 1);
});
