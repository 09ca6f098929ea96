// Moving the live alias: check, swap, roll back, and the verdict.

import { explain, post, put, remediesOf, setKey, technical } from "./api.js";
import { byId, detail, element, spoken } from "./elements.js";
import { explainCheck, titleOf } from "./refusals.js";
import { routeLines } from "./routes.js";

let live = null;
/** The version to go back to; `undefined` while the server has not said. */
let earlier;
let busy = false;
let onMoved = () => {};

/** `moved` is called after the live version has changed, `keyChanged` after another key was entered. */
export function startSwap(moved, keyChanged) {
  onMoved = moved;
  byId("swap-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(true);
  });
  byId("move").addEventListener("click", () => submit(false));
  byId("rollback").addEventListener("click", rollBack);
  const key = byId("key");
  let known = "";
  const changed = () => {
    if (key.value !== known) keyChanged();
    known = key.value;
  };
  key.addEventListener("input", () => setKey(key.value));
  key.addEventListener("change", changed);
  // Whoever gives a key to read asks for no check of a version.
  key.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    changed();
  });
}

/** `mayWrite` says what the server allows to the key that was entered, or to everybody. */
export function offerSwap(models, liveName, previous, mayWrite) {
  live = liveName;
  earlier = previous ?? null;
  byId("swap-rights").textContent = mayWrite ? "" : "As things stand this page may read but not change anything.";
  const select = byId("swap-version");
  const chosen = select.value;
  const options = models.map(({ name }) => element("option", { value: name }, name === live ? `${name} (live)` : name));
  select.replaceChildren(...options);
  const newest = models.filter(({ name }) => name !== live).at(-1)?.name;
  const known = models.some(({ name }) => name === chosen);
  select.value = known ? chosen : newest ?? live ?? "";
  byId("rollback").textContent = previous ? `Roll back to ${previous}` : "Roll back";
}

export function chooseVersion(name) {
  byId("swap-version").value = name;
  byId("swap").scrollIntoView({ block: "nearest" });
  byId("check").focus();
}

function rollBack() {
  if (earlier === null) show("bad", "No version was live before this one, so there is none to go back to.");
  else send("Rolling back", () => post("/aliases/live:rollback"), false);
}

function submit(dryRun) {
  const version = byId("swap-version").value;
  if (!version) {
    show("bad", "There is no version to choose. Publish one first.");
    return;
  }
  const body = dryRun ? { version, dry_run: true } : { version };
  send(dryRun ? `Checking ${version}` : `Checking ${version}, then swapping`, () => put("/aliases/live", { json: body }), dryRun, version);
}

async function send(doing, request, dryRun, version) {
  if (busy) return;
  setBusy(true);
  show("waiting", doing);
  try {
    const answer = await request();
    const failed = answer.checks.some((check) => !check.passed);
    if (answer.dry_run) {
      show(failed ? "bad" : "good", failed ? `${answer.version} would be refused.` : `${answer.version} may go live.`, answer.checks, answer.version, answer);
    } else {
      const before = answer.previous ? `, in place of ${answer.previous}` : "";
      const forced = answer.forced ? " It went live although a check failed; the server has logged this." : "";
      show("good", `${answer.version} is live${before}.${forced}`, answer.checks, "", answer);
      onMoved();
    }
  } catch (error) {
    refuse(error, dryRun, version);
  } finally {
    setBusy(false);
  }
}

function refuse(error, dryRun, version) {
  const checks = error.details?.checks;
  if (Array.isArray(checks)) {
    const stays = live ? ` ${live} stays live.` : "";
    const heading = dryRun ? `${version} would be refused.` : `Refused${version ? `: ${version} does not go live` : ""}.${stays}`;
    // The error's message says the failed ones once more.
    show("bad", heading, checks, version, {}, remediesOf(error));
    return;
  }
  const needsKey = "This needs a key with the right to write. The server got none, or does not know this one.";
  show("bad", error.status === 401 ? needsKey : explain(error));
  const said = detail(technical(error));
  if (said) byId("verdict").firstChild.append(said);
  if (error.status === 401 || error.status === 403) byId("key").focus();
}

// Not `disabled`: the pressed button would lose the focus.
function setBusy(value) {
  busy = value;
  for (const id of ["check", "move", "rollback"]) byId(id).setAttribute("aria-disabled", String(value));
}

function show(tone, heading, checks = [], version = "", routes = {}, commands = []) {
  const parts = [element("h3", {}, heading)];
  if (checks.length > 0) {
    // Reasons first.
    const sorted = [...checks].sort((a, b) => Number(a.passed) - Number(b.passed));
    parts.push(element("ul", { class: "checks", role: "list" }, ...sorted.map((each) => check(each, version))));
    const lines = routeLines(routes);
    if (lines.length > 0) parts.push(element("ul", { class: "routes", role: "list", "aria-label": "How this version searches the items" }, ...lines));
    const remedies = new Set(sorted.filter(({ passed }) => !passed).map((each) => explainCheck(each, version).remedy));
    if (remedies.size > 0) parts.push(element("p", { class: "remedy" }, [...remedies].join(" ")));
    const said = checks.map(({ name, passed, detail: found }) => `${name}: ${passed ? "passed" : "failed"}. ${found ?? ""}`);
    parts.push(detail([...said, ...commands].join("\n")));
  }
  byId("verdict").replaceChildren(element("div", { class: `verdict ${tone}` }, ...parts));
}

function check(each, version) {
  const sign = element("span", { class: "sign", "aria-hidden": "true" }, each.passed ? "✓" : "✕");
  if (each.passed) {
    const cost = each.name === "cost per query" ? `: ${each.detail}` : null;
    return element("li", { class: "passed" }, sign, element("span", {}, spoken("Passed: "), titleOf(each.name), cost));
  }
  const { title, text } = explainCheck(each, version);
  return element("li", { class: "failed" }, sign,
    element("span", {}, spoken("Failed: "), element("b", {}, title), ` ${text}`));
}
