// The explanation of a request, as `GET /cors?url=…` answers it.

import { clean, code, copyable, definitions, make, moment, prose, sentence, table } from "./dom.js";

const VERDICTS = {
  allowed: ["✓", "Allowed"],
  refused: ["✗", "Refused"],
  transparent: ["→", "Not decided here"],
  unknown_host: ["?", "Unknown host"],
  failed: ["!", ""],
};

export function verdict(kind, title, text) {
  const [sign, word] = VERDICTS[kind] ?? VERDICTS.failed;
  return make("div", { class: "verdict " + kind },
    make("span", { class: "sign", "aria-hidden": "true" }, sign),
    make("div", {}, make("strong", {}, title || word), make("p", {}, prose(sentence(text)))));
}

/** The route, bucket and policy that serve the request. */
export function served(answer) {
  const { route, bucket, policy } = answer;
  const named = bucket && (bucket.ambiguous ? "ambiguous" : bucket.name === null ? "none: the request is for the service root" : code(bucket.name));
  const own = bucket && bucket.name !== null && !bucket.has_policy ? " (has no policy of its own)" : null;
  return definitions([
    ["Route", route && make("span", {}, clean(route.name) + ", by its host ", code(route.host_pattern))],
    ["Upstream", route && code(route.upstreams.join(", "))],
    ["Bucket", bucket && make("span", {}, named, own)],
    ["Policy", policy && make("span", {}, policy.file === null ? "none: CORS is not enabled" : code(policy.file),
      ` · semantics ${policy.semantics}`, policy.loaded_at ? ` · read ${moment(policy.loaded_at)}` : null)],
    ["Newer file", policy?.last_error && make("span", { class: "no" }, "not in force: " + clean(policy.last_error, 1000))],
  ]);
}

const ENGINES = { chromium: "Chromium", firefox: "Firefox", webkit: "WebKit" };

/** What each browser's console prints. */
export function consoles(answer) {
  const messages = Object.entries(answer.browser?.messages ?? {}).filter(([, text]) => text);
  if (!messages.length) return [];
  return [make("h3", {}, "What the browser's console says"),
    make("dl", { class: "messages" }, messages.flatMap(([engine, text]) => [make("dt", {}, ENGINES[engine] ?? engine), make("dd", {}, code(text, 2000))]))];
}

/** The change that would allow the request, and what else it opens. */
export function change(decision) {
  const { advice } = decision;
  if (!advice) return [];
  const parts = [make("h3", {}, "The smallest change")];
  if (advice.configuration || !advice.edits?.length) parts.push(make("p", {}, sentence(clean(advice.text, 1000))));
  // Several elements for one rule are one text to copy.
  const edits = Map.groupBy(advice.configuration ? [] : advice.edits ?? [], ({ text }) => text);
  for (const [text, same] of edits) parts.push(make("p", { class: "quiet" }, sentence(clean(text) + ":")), copyable(same.map(({ xml }) => xml).join("\n")));
  if (advice.configuration) parts.push(copyable(advice.configuration));
  if (advice.lets_in?.length) parts.push(make("h4", {}, "What it opens"), list(advice.lets_in));
  if (advice.applies_to?.length) parts.push(make("h4", {}, "It applies to"), list(advice.applies_to.map((place) => place.text)));
  return parts;
}

const list = (texts) => make("ul", {}, texts.map((text) => make("li", {}, clean(text, 600))));

/** The rules, and the notes on the decision. */
export function ruleByRule(decision) {
  const parts = [];
  if (decision.rules.length) parts.push(make("h3", {}, "Rule by rule"), rules(decision));
  else if (decision.message) parts.push(make("p", {}, "No rule was evaluated: " + clean(decision.message) + "."));
  if (decision.notes.length) parts.push(make("ul", { class: "quiet" }, decision.notes.map((note) => make("li", {}, prose(sentence(note.text))))));
  return parts;
}

const CONDITIONS = [["origin", "AllowedOrigin"], ["method", "AllowedMethod"], ["header", "AllowedHeader"]];

function rules(decision) {
  const row = (rule) => {
    const nearest = rule.rule === decision.nearest_rule;
    const matched = decision.matched?.rule === rule.rule;
    const tag = matched ? "decides" : nearest ? "nearest" : rule.matches ? "matches too" : null;
    const cells = CONDITIONS.map(([condition, element]) => {
      const failure = rule.failures.find((failure) => failure.condition === condition);
      return make("td", { "data-label": element }, failure ? missed(failure) : make("span", { class: "yes" }, "✓ matches"));
    });
    return make("tr", { class: matched ? "matches" : nearest ? "nearest" : null },
      make("th", { scope: "row", "data-label": "Rule" }, String(rule.rule), " ", rule.id ? code(rule.id, 100) : null, " ", tag ? make("span", { class: "badge" }, tag) : null),
      cells);
  };
  return table("rules", "The first rule with no failed condition decides.", ["Rule", ...CONDITIONS.map(([, element]) => element)], decision.rules.map(row));
}

/** What a rule lists, and what it lacks. */
function missed(failure) {
  const expected = failure.expected.slice(0, 20).flatMap((value, index) => [index ? ", " : null, code(value, 200)]);
  const parts = [make("div", { class: "no" }, "✗ not ", code(failure.actual.join(", ") || "well-formed", 300)),
    make("div", { class: "quiet" }, failure.expected.length ? "lists " : "lists none", expected)];
  if (failure.closest) {
    const named = failure.expected.length > 1 ? ` (${failure.closest.allowed_origin})` : "";
    parts.push(make("div", { class: "quiet" }, sentence(clean(failure.closest.differences.join(", ") + named))));
  }
  return parts;
}

/** The answer of the proxy: status, error and CORS fields, and a command to try it. */
export function response(decision) {
  const parts = [make("h3", {}, decision.status ? `The response: ${decision.status}` : "Fields that s3cors sets on the response")];
  if (decision.error) parts.push(make("p", {}, code(decision.error.code), " ", clean(decision.error.message)));
  parts.push(decision.fields.length ? make("dl", { class: "mono" }, decision.fields.flatMap((field) => [make("dt", {}, field.name), make("dd", {}, clean(field.value, 1000))]))
    : make("p", { class: "quiet" }, "No CORS fields."));
  if (decision.curl) parts.push(make("h4", {}, "Try it with curl"), copyable(wrapped(decision.curl)));
  return parts;
}

/** A command with each field on its own line; a shell reads it the same way. */
const wrapped = (command) => command.replaceAll(" -H '", " \\\n  -H '").replace(/ ('https?:[^']*')$/, " \\\n  $1");

/** Everything about a hypothetical request: both steps. */
export function explained(answer) {
  const parts = [verdict(answer.verdict, "", answer.summary), served(answer)];
  if (answer.known_hosts.length) parts.push(make("p", { class: "quiet" }, "Known hosts: " + clean(answer.known_hosts.join(", "), 2000)));
  if (!answer.preflight) return parts;
  if (answer.same_origin) {
    parts.push(make("p", { class: "quiet" }, "The page has the same origin, so browsers ignore the policy. It says:"));
  } else {
    if (answer.verdict === "refused") parts.push(...consoles(answer));
    if (answer.preflight.needed) {
      parts.push(step("Preflight", answer.preflight, [make("p", {}, (answer.actual ? "The browser sends a preflight: " : "No browser sends this preflight: ") + clean(answer.preflight.reasons.join("; "), 1000) + ".")]));
    } else {
      parts.push(make("p", {}, "The browser sends this request without a preflight."));
    }
  }
  if (!answer.actual) return parts;
  const isSent = answer.same_origin || !answer.preflight.needed || answer.preflight.outcome === "allowed";
  parts.push(step("Actual request", answer.actual, isSent ? [] : [make("p", {}, "The browser does not send it, because the preflight is refused.")], isSent));
  return parts;
}

function step(title, decision, intro, isOpen = true) {
  const refused = decision.outcome === "refused";
  const sign = decision.outcome === "allowed" ? make("span", { class: "badge allowed" }, "✓ allowed") : refused ? make("span", { class: "badge refused" }, "✗ refused") : null;
  return make("details", { class: "step", open: refused && isOpen ? "" : false },
    make("summary", {}, make("span", { class: "name" }, title), " ", sign),
    intro, change(decision), ruleByRule(decision), response(decision));
}
