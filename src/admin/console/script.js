// The console's script. Whatever it shows goes through `textContent`: nothing that a request, a
// config or a browser's message says is ever read as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("form");

/** An element with attributes and children; text stays text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Messages begin in lower case, as errors do; on the page they are sentences. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const code = (text) => make("code", {}, text);

/** Text whose `code` stands between backticks. */
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? code(part) : part));

/** A time as people read it, to the second. */
const moment = (time) => time.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");

/** A command a field a line; a shell reads it all the same. */
const lines = (command) => command.replaceAll(" -H '", " \\\n  -H '").replace(/ ('https?:[^']*')$/, " \\\n  $1");

function copyable(text) {
  const button = make("button", { type: "button", "aria-label": "Copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Over plain HTTP a page may not write to the clipboard: select it instead.
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
  });
  return make("div", { class: "code" }, make("pre", {}, text), button);
}

// ---------------------------------------------------------------- asking

function asked() {
  const data = new FormData(form);
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
  const query = asked();
  history.replaceState(null, "", "/cors?" + query);
  const answer = byId("answer");
  answer.hidden = false;
  try {
    const response = await fetch("/cors?" + query, { headers: { Accept: "application/json" } });
    const body = await response.json();
    answer.replaceChildren(...(response.ok ? explained(body) : [verdict("failed", "This cannot be explained", body.error)]));
  } catch (error) {
    answer.replaceChildren(verdict("failed", "No answer", String(error)));
  }
  answer.scrollIntoView({ block: "nearest" });
}

// ---------------------------------------------------------------- showing

const VERDICTS = {
  allowed: ["✓", "Allowed"],
  refused: ["✗", "Refused"],
  transparent: ["→", "Not decided here"],
  unknown_host: ["?", "Unknown host"],
  failed: ["!", ""],
};

function verdict(kind, title, text) {
  const [sign, word] = VERDICTS[kind];
  return make("div", { class: "verdict " + kind },
    make("span", { class: "sign", "aria-hidden": "true" }, sign),
    make("div", {}, make("strong", {}, title || word), make("p", {}, prose(sentence(text)))));
}

function explained(answer) {
  const parts = [verdict(answer.verdict, "", answer.summary)];
  parts.push(served(answer));
  if (answer.known_hosts.length) {
    parts.push(make("p", { class: "hint" }, "Hosts that are served: " + answer.known_hosts.join(", ")));
  }
  if (answer.preflight && answer.same_origin) {
    parts.push(make("p", { class: "hint" }, "What the policy says is of no consequence for a page of the same origin:"),
      ...decided(answer.actual), make("h3", {}, "Fields that the proxy sets on the response"), fields(answer.actual.fields));
  } else if (answer.preflight) {
    parts.push(...exchange(answer));
    parts.push(...consoles(answer));
  }
  return parts;
}

const ENGINES = { chromium: "Chromium", firefox: "Firefox", webkit: "WebKit" };

/** What each browser's console prints about a refusal. */
function consoles(answer) {
  const messages = Object.entries(answer.browser?.messages ?? {});
  if (answer.verdict !== "refused" || !messages.length) return [];
  const rows = messages.flatMap(([engine, text]) => [make("dt", {}, ENGINES[engine] ?? engine), make("dd", {}, text)]);
  return [make("h3", {}, "What the browser's console says"), make("dl", {}, ...rows)];
}

function served(answer) {
  const rows = [];
  const row = (name, ...value) => rows.push(make("dt", {}, name), make("dd", {}, ...value));
  if (answer.route) {
    row("Route", answer.route.name + ", by its host ", code(answer.route.host_pattern));
    row("Upstream", code(answer.route.upstreams.join(", ")));
  }
  if (answer.bucket) {
    row("Bucket", answer.bucket.ambiguous ? "ambiguous"
      : answer.bucket.name === null ? "none: the request is for the service" : code(answer.bucket.name),
      answer.bucket.name !== null && !answer.bucket.has_policy ? " (has no policy of its own)" : null);
  }
  const policy = answer.policy;
  if (policy) {
    row("Policy", policy.file === null ? "none: CORS is not enabled" : code(policy.file),
      ` · semantics ${policy.semantics}`, policy.loaded_at ? ` · read ${moment(policy.loaded_at)}` : null);
    if (policy.last_error) row("Newer file", make("span", { class: "no" }, "not in force: " + policy.last_error));
  }
  return make("dl", {}, rows);
}

function exchange(answer) {
  const { preflight, actual } = answer;
  const steps = [];
  if (preflight.needed) steps.push(["Preflight", preflight, () => preflightStep(preflight)]);
  steps.push(["The request itself", actual, () => actualStep(preflight, actual)]);
  const panel = make("div", { role: "tabpanel", id: "panel", tabindex: "0" });
  const tabs = steps.map(([name, decision, show], index) => {
    const sign = decision.outcome === "allowed" ? "✓ " : decision.outcome === "refused" ? "✗ " : "";
    const tab = make("button", { type: "button", role: "tab", id: "tab" + index, "aria-controls": "panel" },
      make("span", { class: decision.outcome === "allowed" ? "yes" : "no", "aria-hidden": "true" }, sign), name,
      make("span", { class: "hint" }, decision.outcome === "allowed" ? " allowed" : decision.outcome === "refused" ? " refused" : ""));
    tab.addEventListener("click", () => select(index));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) select((index + step + tabs.length) % tabs.length).focus();
    });
    return tab;
  });
  function select(index) {
    tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === index));
      tab.tabIndex = place === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", "tab" + index);
    panel.replaceChildren(...steps[index][2]());
    return tabs[index];
  }
  const first = steps.findIndex(([, decision]) => decision.outcome === "refused");
  select(first < 0 ? 0 : first);
  return [make("div", { class: "tabs", role: "tablist", "aria-label": "Steps" }, tabs), panel];
}

function preflightStep(preflight) {
  const parts = [make("p", {}, "The browser asks first: " + preflight.reasons.join("; ") + ".")];
  parts.push(...skipped(preflight), ...decided(preflight));
  parts.push(make("h3", {}, `The answer: ${preflight.status}`));
  if (preflight.error) {
    parts.push(make("p", {}, code(preflight.error.code), " ", preflight.error.message));
  }
  parts.push(fields(preflight.fields), make("h3", {}, "See for yourself"), copyable(lines(preflight.curl)));
  return parts;
}

function actualStep(preflight, actual) {
  const parts = [];
  if (!preflight.needed) {
    parts.push(make("p", {}, "The browser sends it without a preflight."), ...skipped(preflight));
  }
  parts.push(...decided(actual));
  parts.push(make("h3", {}, "Fields that the proxy sets on the response"), fields(actual.fields));
  if (actual.curl) parts.push(make("h3", {}, "See for yourself"), copyable(lines(actual.curl)));
  return parts;
}

function skipped(preflight) {
  const parts = [];
  if (preflight.safelisted_headers.length) {
    parts.push(make("p", { class: "hint" }, "Sent without asking: " + preflight.safelisted_headers.join(", ")));
  }
  if (preflight.forbidden_headers.length) {
    parts.push(make("p", { class: "hint" }, "No script can set: " + preflight.forbidden_headers.join(", ")));
  }
  return parts;
}

function decided(decision) {
  const parts = [];
  if (decision.advice) parts.push(...advised(decision));
  if (decision.rules.length) {
    parts.push(make("h3", {}, "Rule by rule"), rules(decision));
  } else if (decision.message) {
    parts.push(make("p", {}, "No rule was asked: " + decision.message + "."));
  }
  if (decision.notes.length) {
    parts.push(make("ul", { class: "hint" }, decision.notes.map((note) => make("li", {}, prose(sentence(note.text))))));
  }
  return parts;
}

function advised(decision) {
  const advice = decision.advice;
  const parts = [make("h3", {}, "What would let it in"), make("p", {}, sentence(advice.text) + (advice.edits ? ":" : "."))];
  for (const edit of advice.configuration ? [] : advice.edits || []) {
    parts.push(make("p", { class: "hint" }, sentence(edit.text)), copyable(edit.xml));
  }
  if (advice.configuration) parts.push(copyable(advice.configuration));
  if (advice.lets_in && advice.lets_in.length) {
    parts.push(make("p", { class: "hint" }, "That lets in: " + advice.lets_in.join("; ") + "."));
  }
  if (advice.applies_to && advice.applies_to.length) {
    const places = advice.applies_to.map((place) => make("li", {}, place.text));
    parts.push(make("p", { class: "hint" }, "It applies to:"), make("ul", { class: "hint" }, ...places));
  }
  return parts;
}

const CONDITIONS = [["origin", "AllowedOrigin"], ["method", "AllowedMethod"], ["header", "AllowedHeader"]];

function rules(decision) {
  const row = (rule) => {
    const nearest = rule.rule === decision.nearest_rule;
    const matched = decision.matched && decision.matched.rule === rule.rule;
    const tag = matched ? "answers" : nearest ? "nearest" : rule.matches ? "matches too" : null;
    const cells = CONDITIONS.map(([condition, element]) => {
      const failure = rule.failures.find((failure) => failure.condition === condition);
      return make("td", { class: "condition", "data-label": element },
        failure ? missed(failure) : make("span", { class: "yes" }, "✓ holds"));
    });
    return make("tr", { class: matched ? "matches" : nearest ? "nearest" : null },
      make("th", { scope: "row" }, String(rule.rule), rule.id ? " " : null, rule.id ? code(rule.id) : null,
        tag ? " " : null, tag ? make("span", { class: "tag" }, tag) : null),
      cells);
  };
  const head = ["Rule", ...CONDITIONS.map(([, element]) => element)];
  return make("div", { class: "scroll" }, make("table", { class: "rules" },
    make("caption", {}, "The first rule whose three conditions hold answers."),
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, decision.rules.map(row))));
}

/** What a rule lists, and what it does not: the column says of which element. */
function missed(failure) {
  const parts = [make("div", { class: "no" }, "✗ not ", code(failure.actual.join(", ") || "well-formed"))];
  parts.push(make("div", { class: "hint" }, failure.expected.length ? "but " : "has none",
    failure.expected.flatMap((value, index) => [index ? ", " : null, code(value)])));
  if (failure.closest) {
    const named = failure.expected.length > 1 ? ` (${failure.closest.allowed_origin})` : "";
    parts.push(make("div", { class: "hint" }, sentence(failure.closest.differences.join(", ")) + named));
  }
  return parts;
}

function fields(list) {
  if (!list.length) return make("p", { class: "hint" }, "No CORS fields.");
  return make("dl", { class: "mono" }, list.flatMap((field) => [make("dt", {}, field.name), make("dd", {}, field.value)]));
}

// ---------------------------------------------------------------- what the browser said

/** The parts of a request that a browser's message names; the messages are those of Chromium,
 *  Firefox and WebKit. */
function read(message) {
  const find = (...patterns) => {
    for (const pattern of patterns) {
      const match = pattern.exec(message);
      if (match) return match[1];
    }
    return null;
  };
  return {
    url: find(
      /Access to (?:fetch|XMLHttpRequest|font|script|image|video|audio|resource|CSS stylesheet|internal resource) at ['‘](\S+?)['’]/i,
      /remote resource at (\S+?)\.? \(Reason/i,
      /(?:Fetch API|XMLHttpRequest) cannot load (\S+?)\.? due to/i,
      /\b(https?:\/\/\S+?)['’".]?(?:\s|$)/i),
    origin: find(
      /from origin ['‘](\S+?)['’]/i,
      /Origin (\S+) is not allowed by Access-Control-Allow-Origin/i),
    method: find(
      /Method (\S+) is not allowed by Access-Control-Allow-Methods/i,
      /Did not find method in CORS header[^:]*:?\s*['‘]?([A-Z]+)/i),
    header: find(
      /Request header field (\S+) is not allowed by Access-Control-Allow-Headers/i,
      /header ['‘](\S+?)['’] is not allowed according to header/i,
      /missing token ['‘](\S+?)['’] in CORS header ['‘]Access-Control-Allow-Headers/i),
  };
}

byId("pasted").addEventListener("input", (event) => {
  const found = read(event.target.value);
  const named = [];
  for (const name of ["url", "origin", "method"]) {
    if (found[name]) {
      form.elements[name].value = found[name];
      named.push(name);
    }
  }
  const headers = form.elements.headers;
  if (found.header && !headers.value.toLowerCase().split("\n").some((line) => line.split(":")[0].trim() === found.header.toLowerCase())) {
    headers.value = (headers.value.trimEnd() + "\n" + found.header).trim();
    named.push("header field");
  }
  byId("read").textContent = named.length
    ? "Understood: " + named.join(", ") + ". Browsers leave out the rest: please add it."
    : "It names neither URL nor origin.";
});

// ---------------------------------------------------------------- what is in force

const BY = { path: "path", host: "host", both: "path or host" };

async function status() {
  const response = await fetch("/status", { headers: { Accept: "application/json" } });
  const state = await response.json();
  byId("process").textContent = `${state.phase} · config generation ${state.generation} · version ${state.version}`;
  const rows = state.routes.map((route) => {
    const policy = route.policy ? code(route.policy.file || "built in")
      : route.transparent ? "transparent" : route.buckets ? "by bucket" : "CORS not enabled";
    const refused = route.denied_origins.filter((denied) => denied.origin !== "other").slice(0, 5).map((denied) =>
      make("div", { class: "counted" },
        make("button", { type: "button", class: "link mono", title: "Explain this origin", onclick: () => {
          form.elements.origin.value = denied.origin;
          if (!form.elements.url.value) form.elements.url.value = sample(route.hosts[0]);
          form.elements.origin.focus();
        } }, denied.origin),
        make("span", {}, denied.count.toLocaleString("en"))));
    const hosts = route.hosts.map((host) =>
      make("div", {}, make("button", { type: "button", class: "link mono", title: "Ask for this host", onclick: () => {
        form.elements.url.value = sample(host);
        form.elements.url.focus();
      } }, host)));
    return make("tr", {},
      make("th", { scope: "row" }, route.name),
      make("td", { "data-label": "Hosts" }, hosts),
      make("td", { "data-label": "Policy" }, policy,
        route.buckets ? make("div", { class: "hint" }, `${route.buckets.count} ${route.buckets.count === 1 ? "bucket has its" : "buckets have their"} own, by ${BY[route.buckets.address]}`) : null),
      make("td", { "data-label": "Refused most" }, refused.length ? refused : "–"));
  });
  const head = ["Route", "Hosts", "Policy", "Refused most"];
  byId("routes").replaceChildren(make("table", { class: "routes" },
    make("caption", {}, "Choose a host or a refused origin to ask about it."),
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows)));
  if (state.route_count > state.routes.length) {
    byId("routes").append(make("p", { class: "hint" }, `The first ${state.routes.length} of ${state.route_count}.`));
  }
  const origins = state.routes.flatMap((route) => route.denied_origins.map((denied) => denied.origin));
  byId("origins").replaceChildren(...[...new Set(origins)].filter((origin) => origin !== "other").slice(0, 50)
    .map((origin) => make("option", {}, origin)));
  const problems = state.problems.map((problem) =>
    make("li", {}, `${problem.route}${problem.bucket ? ", bucket " + problem.bucket : ""}: `, code(problem.file || ""), " ", problem.error));
  const named = new Set(state.problems.map((problem) => problem.error));
  problems.push(...state.out_of_date.filter((file) => !named.has(file.error)).map((file) =>
    make("li", {}, code(file.file), ` since ${moment(file.since)}: `, file.error)));
  const reload = state.last_reload;
  if (reload && reload.error) problems.unshift(make("li", {}, `${moment(reload.at)}: `, reload.error));
  if (state.restart_needed_for.length) {
    problems.push(make("li", {}, "After a restart: changes of ", code(state.restart_needed_for.join(", "))));
  }
  const box = byId("problems");
  box.hidden = problems.length === 0;
  box.replaceChildren(make("strong", { class: "no" }, "Not in force"), make("ul", {}, problems));
}

function sample(pattern = "") {
  const host = pattern.replace(/^\*\./, "bucket.").replace(/^\*$/, "photos.example.com");
  return `http://${host}/`;
}

// ---------------------------------------------------------------- start

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});

const query = new URLSearchParams(location.search);
for (const name of ["url", "origin", "method"]) {
  if (query.has(name)) form.elements[name].value = query.get(name);
}
for (const name of ["read", "credentials"]) {
  if (query.has(name)) form.elements[name].value = query.getAll(name).join(", ");
}
if (query.has("header")) form.elements.headers.value = query.getAll("header").join("\n");
if (form.checkValidity()) ask();
status().catch((error) => { byId("process").textContent = String(error); });
