// "Explain exactly this": one request that happened, and the decision that was taken.

import { byId, clean, code, copyable, definitions, make, moment, number, sentence } from "./dom.js";
import { change, consoles, response, ruleByRule, served, verdict } from "./answer.js";
import { state } from "./feed.js";
import { stepOf } from "./recheck.js";
import { failed, outcome, reasonTitle, why } from "./words.js";

let shown = 0;

/** The event with this explanation, if the page still has it. */
function findEvent(kind, query) {
  const isSame = (event) => event.cors.request === kind && event.explain && new URLSearchParams(event.explain.split("?")[1]).toString() === query.toString();
  return state.events.find(isSame) ?? [...state.groups.values()].map(({ last }) => last).find(isSame);
}

/** Shows the explanation that a link names; `event` is the request, where the link's row had it. */
export async function showExplain(query, event) {
  const turn = ++shown;
  const bare = new URLSearchParams(query);
  bare.delete("request");
  const box = byId("exact");
  box.replaceChildren(make("p", { class: "quiet" }, "Explaining…"));
  const taken = event ?? findEvent(query.get("request"), bare);
  const { answer, error } = taken && !taken.explain
    ? { answer: null, error: `the origin has ${number(taken.origin_bytes)} bytes, and the page has only the first of them` }
    : await ask(bare);
  if (turn !== shown) return;
  const step = { cors: { request: query.get("request") ?? "actual" } };
  const decision = answer && stepOf(answer, taken ?? step);
  box.replaceChildren(...[
    taken ? decisionTaken(taken) : answer ? verdict(answer.verdict, "", answer.summary) : null,
    agreement(taken, answer, decision, error),
    suggestion(taken, decision),
    make("h3", {}, "The request as it came"),
    taken ? asItCame(taken) : fromLink(bare),
    answer ? [decision ? ruleByRule(decision) : null, (taken ? outcome(taken) : answer.verdict) === "refused" ? consoles(answer) : null,
      make("h3", {}, "What serves it"), served(answer), decision ? response(decision) : null] : null,
    answer?.actual !== null && answer ? make("p", {}, make("a", { href: "#try?" + bare }, "Change the request and try again")) : null,
  ].flat(3).filter(Boolean));
}

/** What the config in force decides. */
async function ask(query) {
  try {
    const reply = await fetch("/cors?" + query, { headers: { Accept: "application/json" } });
    const body = await reply.json();
    return reply.ok ? { answer: body, error: null } : { answer: null, error: body.error };
  } catch (failure) {
    return { answer: null, error: "no answer: " + String(failure) };
  }
}

function decisionTaken(event) {
  const kind = outcome(event);
  if (kind === "refused") return verdict("refused", reasonTitle(event.refused), why(event));
  if (kind === "allowed") return verdict("allowed", "Allowed", event.rule ? `rule ${event.rule}${event.rule_id ? ` (${event.rule_id})` : ""} of ${event.policy ?? "the policy"} allows it.` : "browsers let the script read the response.");
  return verdict("transparent", "", "the route has no CORS policy.");
}

/** Whether the config in force decides as the request was decided. */
function agreement(event, answer, decision, error) {
  const note = (text) => make("p", { class: "notice" }, text);
  if (error) return note(event ? `The rules cannot be evaluated again for this request: ${clean(error, 600)}. The decision above is exact.` : sentence(clean(error, 600)));
  if (!event || !decision) return null;
  const denied = event.cors.outcome === "denied";
  const reason = event.cors.reason ?? event.refused?.reason;
  if ((decision.outcome === "refused") === denied && (!denied || decision.reason === reason)) return null;
  if (state.snapshot && event.generation !== undefined && state.snapshot.generation !== event.generation) {
    return note(decision.outcome === "allowed" ? "The config has changed since: this request would be allowed now."
      : `The config has changed since: this request would now be ${decision.outcome} (${decision.reason}).`);
  }
  return note("The request is shown shortened or changed, so the explanation below may differ from the decision that was taken. The decision above is exact.");
}

function suggestion(event, decision) {
  if (decision?.outcome === "refused") return change(decision);
  const title = make("h3", {}, "The smallest change");
  if (event?.refused?.by === "upstream") {
    return [title, make("p", {}, "On this route the upstream decides. Configure CORS there, or let s3cors decide: write a policy, and name it in the route's config."), copyable('cors = "cors.xml"')];
  }
  if (event?.refused?.by === "no_route" && /^[\w.-]+(:\d+)?$/.test(event.host ?? "")) {
    return [title, make("p", {}, "Add the host to the route that should serve it:"), copyable(`host = [${JSON.stringify(event.host.replace(/:\d+$/, ""))}]`)];
  }
  return null;
}

function asItCame(event) {
  const { cors } = event;
  const text = (value) => (value === undefined || value === null || value === "" ? null : code(value));
  const missing = failed(event);
  return definitions([
    ["Time", moment(event.time)],
    ["Request", code(`${event.method} ${event.target} ${event.version ?? ""}`, 2000)],
    ["Host", text(event.host)],
    ["Origin", text(event.origin)],
    ["Asks for method", text(cors.method)],
    ["Asks for headers", text(cors.headers)],
    ["Failed", missing ? code(missing) : null],
    ["Referer", text(event.referer)],
    ["User agent", text(event.user_agent)],
    ["Client", text(event.client)],
    ["Status", String(event.status)],
    ["Request ID", text(event.request_id)],
    ["Rule", event.rule ? `${event.rule}${event.rule_id ? ` (${clean(event.rule_id)})` : ""} of ${clean(event.policy ?? "")}` : null],
    ["Config generation", event.generation === undefined ? null : String(event.generation)],
  ]);
}

function fromLink(query) {
  return [make("p", { class: "quiet" }, "This page no longer has the request itself. The link says:"), definitions([
    ["URL", code(query.get("url") ?? "", 2000)], ["Origin", code(query.get("origin") ?? "")], ["Method", code(query.get("method") ?? "GET")],
    ["Headers", query.has("header") ? code(query.getAll("header").join(", ")) : null],
  ])];
}
