// The demo: one object read directly and through s3cors, and an upload. What a server or a browser says goes into the
// page as text.

import { byId, clean, copyable, make, number } from "./console/dom.js";

const SHOWN = 2000;

/** How a fetch ends: the response and its bytes, or the script's error. */
async function attempt(url, options = {}) {
  try {
    const response = await fetch(url, { cache: "no-store", ...options });
    return { response, bytes: new Uint8Array(await response.arrayBuffer()) };
  } catch (error) {
    return { error };
  }
}

/** Whether a server answers at all. An opaque response is enough: CORS does not apply to it. */
async function isReachable(url) {
  try {
    await fetch(url, { mode: "no-cors", cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

/** The engine of this browser, as the sentences are listed. */
function ownEngine() {
  const agent = navigator.userAgent;
  if (/firefox\//i.test(agent)) return "firefox";
  if (/chrom(e|ium)\//i.test(agent)) return "chromium";
  return /applewebkit\//i.test(agent) ? "webkit" : "";
}

/** An outcome in one sentence, and what follows from it. */
function verdict(kind, title, text) {
  return make("div", { class: `verdict ${kind}` },
    make("span", { class: "sign", "aria-hidden": "true" }, kind === "allowed" ? "✓" : "✕"),
    make("div", {}, make("strong", {}, title), make("p", {}, text)));
}

const code = (text) => make("code", {}, clean(text));

/** Bytes as text, or `null` where they are none. */
function textOf(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return /[\u0000-\u0008\u000e-\u001f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** The beginning of what was read. */
function contentOf(bytes) {
  const text = textOf(bytes);
  if (text === null) return null;
  const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
  return make("pre", { tabindex: "0", "aria-label": "Content of the object" }, shown);
}

function fieldsOf(response) {
  const names = Array.from(response.headers.keys());
  return names.length ? names.flatMap((name, index) => [index ? ", " : "", code(name)]) : ["none"];
}

const size = (bytes) => `${number(bytes.length)} ${bytes.length === 1 ? "byte" : "bytes"}`;

function unreachable(name, url) {
  return verdict("failed", `${name} cannot be reached`,
    [`Nothing answers at `, code(url), `. In a container, publish its port under the same number.`].map(asNode));
}

const asNode = (part) => (typeof part === "string" ? document.createTextNode(part) : part);

function paragraph(...parts) {
  return make("p", {}, ...parts.flat());
}

/** Refused by the browser, although the server answered. */
function refusedBySentences(facts) {
  const own = ownEngine();
  const rows = facts.messages.flatMap(({ engine, name, text }) => [
    make("dt", {}, name, engine === own && make("span", { class: "badge" }, "this browser")),
    make("dd", {}, make("pre", { tabindex: "0", "aria-label": `Message in ${name}` }, clean(text, SHOWN))),
  ]);
  return [make("h4", {}, "What the browser’s console says"), make("dl", { class: "sentences" }, rows)];
}

async function straight(facts) {
  const url = facts.store + facts.object;
  const { response, bytes, error } = await attempt(url);
  if (response) {
    return [verdict("allowed", "The storage was readable", `Status ${response.status}, ${size(bytes)}. An extension of this browser may switch CORS off.`)];
  }
  if (!(await isReachable(url))) return [unreachable("The storage", facts.store)];
  return [
    verdict("refused", "Blocked by the browser", `The script only gets ${error.name}: ${clean(error.message)}`),
    paragraph("The storage answered, but without ", code("Access-Control-Allow-Origin"), ". So the browser does not let ", code(facts.page), " read the answer."),
    ...refusedBySentences(facts),
  ];
}

/** Why a request through s3cors failed: its console explains it. */
async function refusedThrough(facts, url, method, error) {
  if (!(await isReachable(url))) return unreachable("s3cors", facts.proxy);
  const query = new URLSearchParams({ url, origin: facts.page, method });
  const link = facts.console && make("a", { href: `${facts.console}#try?${query}` }, "Why was it refused?");
  return verdict("refused", "Blocked by the browser", [`${error.name}: ${clean(error.message)} `, link].filter(Boolean).map(asNode));
}

function noProxy() {
  return verdict("failed", "No browser reaches this proxy", [document.createTextNode("It listens on a Unix socket. Start the demo with an IP address and port as "), code("--listen"), document.createTextNode(".")]);
}

async function through(facts) {
  if (!facts.proxy) return [noProxy()];
  const url = facts.proxy + facts.object;
  const { response, bytes, error } = await attempt(url);
  if (error) return [await refusedThrough(facts, url, "GET", error)];
  if (!response.ok) return [verdict("refused", `Status ${response.status}`, clean(textOf(bytes) ?? ""))];
  return [
    verdict("allowed", "Readable", `Status ${response.status}, ${size(bytes)}. Same storage, same object.`),
    contentOf(bytes),
    // The rule that lists an origin exposes the ETag; the rule for every other page does not.
    response.headers.has("etag")
      ? paragraph("s3cors added ", code(`Access-Control-Allow-Origin: ${facts.page}`), " because a rule of the policy lists this origin.")
      : paragraph("s3cors added ", code("Access-Control-Allow-Origin: *"), " because a rule of the policy lets every page read."),
    paragraph("Headers that the script may read: ", fieldsOf(response), "."),
  ];
}

/** What is uploaded: the chosen file, or the text. */
async function chosen() {
  const [file] = byId("file").files;
  const name = file ? file.name : "note.txt";
  const type = file ? file.type || "application/octet-stream" : "text/plain; charset=utf-8";
  const bytes = file ? new Uint8Array(await file.arrayBuffer()) : new TextEncoder().encode(byId("text").value);
  return { path: `/uploads/${encodeURIComponent(name)}`, type, bytes };
}

const step = (passed, ...parts) => make("li", {},
  make("span", { class: `sign ${passed ? "yes" : "no"}`, "aria-hidden": "true" }, passed ? "✓" : "✕"), make("span", {}, ...parts.flat()));

const isSame = (one, other) => one.length === other.length && one.every((byte, index) => byte === other[index]);

async function upload(facts) {
  if (!facts.proxy) return [noProxy()];
  const { path, type, bytes } = await chosen();
  const url = facts.proxy + path;
  const put = await attempt(url, { method: "PUT", headers: { "Content-Type": type }, body: bytes });
  if (put.error) return [await refusedThrough(facts, url, "PUT", put.error)];
  if (!put.response.ok) {
    return [verdict("refused", `Not stored: status ${put.response.status}`, clean(textOf(put.bytes) ?? ""))];
  }
  const read = await attempt(url);
  if (read.error) return [await refusedThrough(facts, url, "GET", read.error)];
  const same = read.response.ok && isSame(read.bytes, bytes);
  return [
    same
      ? verdict("allowed", "Uploaded and read back", `${size(bytes)} as ${clean(path)}`)
      : verdict("refused", "Read back differently", `${size(read.bytes)}, status ${read.response.status}`),
    make("ol", { class: "steps" },
      step(true, "Preflight: s3cors allowed ", code("PUT"), " with ", code("content-type"), ". The storage did not see this request."),
      step(true, code(`PUT ${path}`), `: status ${put.response.status}. The script reads the `, code("ETag"), ": ", code(put.response.headers.get("etag") ?? "none"), "."),
      step(same, code(`GET ${path}`), `: status ${read.response.status}, ${same ? "the same" : "other"} bytes.`)),
    contentOf(read.bytes),
  ];
}

/** Runs one action at a time, and shows what came of it below its button. */
function bind(section, element, event, action) {
  const button = section.querySelector("button");
  const result = section.querySelector(".result");
  let busy = false;
  element.addEventListener(event, async (happened) => {
    happened.preventDefault();
    if (busy) return;
    busy = true;
    button.setAttribute("aria-busy", "true");
    try {
      const shown = await action();
      result.replaceChildren(...shown.filter(Boolean));
    } finally {
      busy = false;
      button.removeAttribute("aria-busy");
    }
  });
}

function show(facts) {
  const fill = (selector, text) => document.querySelectorAll(selector).forEach((element) => { element.textContent = clean(text); });
  fill(".at-page", facts.page);
  fill(".at-proxy", facts.proxy ?? "a Unix socket");
  fill(".at-store", facts.store);
  for (const link of document.querySelectorAll("a.console")) {
    link.hidden = !facts.console;
    if (facts.console) link.href = facts.console;
  }
  byId("console-text").hidden = !facts.console;
  byId("policy").append(copyable(facts.policy));
  byId("curl").append(...facts.curl.flatMap(({ title, line }) => [make("h4", {}, title), copyable(line)]));
  byId("own").append(copyable("s3cors run --upstream http://127.0.0.1:9000 --cors cors.xml"));
}

// The addresses; until they are here, an action waits for them.
const facts = fetch("/demo.json").then((response) => response.json());
for (const [id, action] of [["straight", straight], ["through", through], ["upload", upload]]) {
  const section = byId(id);
  const form = section.querySelector("form");
  bind(section, form ?? section.querySelector("button"), form ? "submit" : "click", async () => action(await facts));
}
facts.then(show).catch((error) => {
  const notice = byId("failed");
  notice.textContent = `The demo cannot be reached: ${clean(error.message)}. Is it still running?`;
  notice.hidden = false;
});
