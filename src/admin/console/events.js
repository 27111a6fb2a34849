// The stream of single events, with filters.

import { byId, clean, clock, code, make, number, reconcile, setText } from "./dom.js";
import { explainLink } from "./now.js";
import { OUTCOMES, outcome, reasonTitle, why } from "./words.js";

const MAX_ROWS = 150;
const FILTERS = ["outcome", "route", "bucket", "origin", "reason"];

let frozen = null;
let latest = { events: [], received: 0 };

export function startEvents(onFilter) {
  byId("filters").addEventListener("input", () => {
    onFilter();
    show();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("pause").addEventListener("click", () => {
    frozen = frozen ? null : { events: [...latest.events], received: latest.received };
    byId("pause").setAttribute("aria-pressed", String(Boolean(frozen)));
    show();
  });
}

/** The filters as a query. */
export function filters() {
  const query = new URLSearchParams();
  const form = byId("filters");
  for (const name of FILTERS) {
    const value = form.elements[name].value.trim();
    if (value) query.set(name, value);
  }
  return query;
}

export function setFilters(query) {
  const form = byId("filters");
  for (const name of FILTERS) {
    const field = form.elements[name];
    const value = query.get(name) ?? "";
    // A link may name a route that has no event yet.
    if (field.tagName === "SELECT" && value && ![...field.options].some((option) => option.value === value)) {
      field.append(make("option", { value }, clean(value, 80)));
    }
    field.value = value;
  }
  show();
}

export function showEvents(state) {
  latest = state;
  addOptions(byId("filters").elements.route, latest.events.map((event) => event.route), (route) => route);
  addOptions(byId("filters").elements.reason, latest.events.map((event) => event.refused?.reason),
    (reason) => reasonTitle(latest.events.find((event) => event.refused?.reason === reason).refused));
  show();
}

function addOptions(select, values, title) {
  const known = new Set(Array.from(select.options, (option) => option.value));
  for (const value of new Set(values)) {
    if (value && !known.has(value) && select.options.length < 100) select.append(make("option", { value }, clean(title(value), 80)));
  }
}

function matches(event) {
  const wanted = filters();
  const has = (name, text) => !wanted.has(name) || String(text ?? "").toLowerCase().includes(wanted.get(name).toLowerCase());
  const is = (name, text) => !wanted.has(name) || wanted.get(name) === text;
  return is("outcome", outcome(event)) && is("route", event.route) && is("reason", event.refused?.reason)
    && has("bucket", event.bucket) && has("origin", event.origin);
}

function show() {
  if (byId("view-events").hidden) return;
  const source = frozen ?? latest;
  const found = source.events.filter(matches);
  const waiting = frozen ? latest.received - frozen.received : 0;
  setText(byId("pause"), frozen ? "Resume" : "Pause");
  setText(byId("paused"), frozen ? `Paused. ${number(waiting)} newer.` : "");
  byId("events-table").hidden = found.length === 0;
  byId("events-empty").hidden = found.length > 0;
  setText(byId("events-empty"), source.events.length ? "No event matches these filters."
    : "No CORS request since this page was opened. Each one appears here as it ends.");
  setText(byId("events-count"), found.length > MAX_ROWS ? `The latest ${MAX_ROWS} of ${number(found.length)}.` : "");
  reconcile(byId("events-rows"), found.slice(0, MAX_ROWS), (event) => String(event.number), eventRow);
}

function eventRow(event) {
  const kind = outcome(event);
  const [sign, word] = OUTCOMES[kind];
  const link = make("a", { href: explainLink(event), class: "explain" }, "Explain exactly this");
  link.event = event;
  const asked = event.cors.request === "preflight" ? `${event.cors.method ?? ""} (preflight)` : event.method;
  return make("tr", {},
    make("th", { scope: "row", "data-label": "Time" }, make("time", { datetime: event.time }, clock(event.time))),
    make("td", { "data-label": "Outcome", class: "outcome " + kind }, make("span", { "aria-hidden": "true" }, sign + " "), word),
    make("td", { "data-label": "Origin" }, code(event.origin, 120)),
    make("td", { "data-label": "Request" }, code(`${asked} ${event.host ?? ""}${event.target}`, 160),
      make("span", { class: "quiet where" }, clean([event.route ? `route ${event.route}` : "no route", event.bucket ? `bucket ${event.bucket}` : null, `status ${event.status}`].filter(Boolean).join(" · "), 160))),
    make("td", { "data-label": "Why" }, event.refused ? [make("strong", { class: "reason" }, reasonTitle(event.refused)), make("span", { class: "sentence" }, clean(why(event), 200))]
      : event.rule ? make("span", { class: "sentence" }, `Rule ${event.rule}${event.rule_id ? ` (${clean(event.rule_id, 60)})` : ""}`) : null),
    make("td", { class: "action" }, link));
}
