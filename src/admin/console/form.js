// The form: what a browser would do with a request that nobody has sent yet.

import { byId, make } from "./dom.js";
import { explained, verdict } from "./answer.js";
import { readMessage } from "./browser_message.js";

const form = () => byId("form");

export function startForm(onAsk) {
  form().addEventListener("submit", (event) => {
    event.preventDefault();
    onAsk(asked());
    ask();
  });
  byId("pasted").addEventListener("input", (event) => takeMessage(event.target.value));
}

/** Fills the form from a link, and asks if the request is complete. */
export function fillForm(query) {
  for (const name of ["url", "origin", "method", "credentials"]) {
    if (query.has(name)) form().elements[name].value = query.get(name);
  }
  if (query.has("read")) form().elements.read.value = query.getAll("read").join(", ");
  if (query.has("header")) form().elements.headers.value = query.getAll("header").join("\n");
  if (query.has("url") && form().checkValidity()) ask();
}

function asked() {
  const data = new FormData(form());
  const query = new URLSearchParams();
  for (const name of ["url", "origin", "method"]) query.set(name, data.get(name).trim());
  for (const line of data.get("headers").split("\n")) {
    if (line.trim()) query.append("header", line.trim());
  }
  for (const name of ["read", "credentials"]) {
    if (data.get(name).trim()) query.set(name, data.get(name).trim());
  }
  return query;
}

async function ask() {
  const answer = byId("answer");
  answer.hidden = false;
  try {
    const response = await fetch("/cors?" + asked(), { headers: { Accept: "application/json" } });
    const body = await response.json();
    answer.replaceChildren(make("h3", { class: "unseen" }, "Answer"), ...(response.ok ? explained(body) : [verdict("failed", "This cannot be explained", body.error)]));
  } catch (error) {
    answer.replaceChildren(verdict("failed", "No answer", String(error)));
  }
  answer.scrollIntoView({ block: "nearest" });
}

/** Offers the origins and methods that were refused. */
export function offerOrigins({ groups }) {
  const origins = [...new Set([...groups.values()].map(({ origin }) => origin))].slice(0, 50);
  const list = byId("origins");
  if (list.dataset.shown === origins.join("\n")) return;
  list.dataset.shown = origins.join("\n");
  list.replaceChildren(...origins.map((value) => make("option", { value })));
}

function takeMessage(message) {
  const found = readMessage(message);
  const named = [];
  for (const name of ["url", "origin", "method"]) {
    if (found[name]) {
      form().elements[name].value = found[name];
      named.push(name);
    }
  }
  const { headers } = form().elements;
  const has = (name) => headers.value.toLowerCase().split("\n").some((line) => line.split(":")[0].trim() === name.toLowerCase());
  if (found.header && !has(found.header)) {
    headers.value = (headers.value.trimEnd() + "\n" + found.header).trim();
    named.push("header");
  }
  byId("read").textContent = named.length ? "Found: " + named.join(", ") + ". Browsers leave out the rest: please add it."
    : "The message names neither a URL nor an origin.";
}
