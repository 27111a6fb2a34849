// The first view: what happens now.

import { byId, clean, clock, code, make, moment, number, reconcile, setText } from "./dom.js";
import { chart } from "./chart.js";
import { groupKey } from "./feed.js";
import { isFixed } from "./recheck.js";
import { failed, reasonTitle, why } from "./words.js";

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

/** One chart for each outcome; every request is in exactly one of the first three. */
const allowedIn = (minute) => sum(minute.allowed);
const refusedIn = (minute) => Math.max(sum(minute.denied), minute.verdicts.blocked);
const COUNTS = [
  ["Refused", "refused", refusedIn],
  ["Allowed", "allowed", allowedIn],
  ["Other requests", "others", (minute) => Math.max(0, minute.requests - allowedIn(minute) - refusedIn(minute))],
  ["Server errors", "errors", (minute) => minute.server_errors],
];

const charts = COUNTS.map(([title, className, count]) => ({ ...chart(title, className), title, count }));
const minutesBody = make("tbody");
const SORTS = {
  first: (a, b) => b.first_seen.localeCompare(a.first_seen),
  last: (a, b) => b.last_seen.localeCompare(a.last_seen),
  count: (a, b) => b.count - a.count,
};
let draw = () => {};

/** Builds the view once. */
export function startNow(onSort) {
  byId("charts").append(...charts.map(({ element }) => element));
  const head = ["Minute (UTC)", ...COUNTS.map(([title]) => title)].map((name) => make("th", { scope: "col" }, name));
  byId("minutes").append(make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Requests by minute" }, make("table", {}, make("caption", {}, "Requests by outcome, the latest minute first. A server error is also counted by its outcome."),
    make("thead", {}, make("tr", {}, head)), minutesBody)));
  byId("sort").addEventListener("change", () => { draw(); onSort(); });
}

/** Shows the state. */
export function showNow(state) {
  const { snapshot } = state;
  if (!snapshot) return;
  draw = () => showRefused(state);
  for (const { draw: drawChart, count } of charts) drawChart(snapshot.minutes.map(count));
  if (byId("minutes").open) showMinutes(snapshot.minutes);
  showRefused(state);
  showAllowed(snapshot);
}

function showMinutes(minutes) {
  minutesBody.replaceChildren(...minutes.toReversed().map((minute) => make("tr", {},
    make("th", { scope: "row" }, clock(minute.time).slice(0, 5)),
    COUNTS.map(([, , count]) => make("td", { class: "count" }, number(count(minute)))))));
}

function showRefused({ groups, snapshot }) {
  const all = [...groups.values()].sort(SORTS[byId("sort").value] ?? SORTS.first);
  const fixed = all.filter(isFixed);
  const open = all.filter((group) => !isFixed(group));
  const empty = byId("refused-empty");
  empty.hidden = open.length > 0;
  setText(empty, fixed.length ? "Every refused request so far would be allowed now."
    : `No request has been refused since ${moment(snapshot.started)}. Refused requests appear here as they happen.`);
  byId("refused-table").hidden = open.length === 0;
  byId("sort-label").hidden = open.length < 2;
  reconcile(byId("refused-rows"), open, groupKey, groupRow, updateRow);
  byId("fixed").hidden = fixed.length === 0;
  setText(byId("fixed-title"), `Allowed since the last change: ${number(fixed.length)}`);
  reconcile(byId("fixed-rows"), fixed, groupKey, fixedItem);
  const forgotten = snapshot.refused_groups_forgotten;
  setText(byId("forgotten"), forgotten ? `The ${number(groups.size)} most recent groups. ${number(forgotten)} older groups were dropped.` : "");
}

/** The link to a group's explanation. */
export function explainLink(event) {
  const query = event.explain?.split("?")[1] ?? "";
  const taken = new URLSearchParams(query);
  taken.set("request", event.cors.request);
  return `#explain?${taken}`;
}

function groupRow() {
  const link = make("a", { class: "explain" });
  return make("tr", {},
    make("th", { scope: "row", "data-label": "Origin" }),
    make("td", { "data-label": "Why" }, make("strong", { class: "reason" }), make("span", { class: "sentence" })),
    make("td", { "data-label": "Request" }, make("code", { dir: "ltr" }), make("span", { class: "quiet where" })),
    make("td", { "data-label": "Count", class: "count" }),
    make("td", { "data-label": "Seen", class: "seen" }, make("time", {}), make("span", { class: "quiet" })),
    make("td", { class: "action" }, link));
}

function updateRow(row, group) {
  const { last } = group;
  const [origin, reason, request, count, seen, action] = row.children;
  if (!origin.firstChild || origin.textContent !== clean(group.origin, 120)) origin.replaceChildren(code(group.origin, 120));
  setText(reason.firstChild, reasonTitle(group));
  const missing = failed(last);
  setText(reason.lastChild, clean(why(last), 260));
  reason.title = missing ? clean(missing) : "";
  setText(request.firstChild, clean(`${last.cors.request === "preflight" ? `${last.cors.method ?? ""} (preflight)` : last.method} ${last.host ?? ""}${last.target}`, 160));
  setText(request.lastChild, clean([group.route ? `route ${group.route}` : "no route", group.bucket ? `bucket ${group.bucket}` : null].filter(Boolean).join(" · "), 160));
  setText(count, number(group.count));
  setText(seen.firstChild, clock(group.last_seen));
  seen.firstChild.dateTime = group.last_seen;
  setText(seen.lastChild, group.count > 1 ? `first ${sameDay(group) ? clock(group.first_seen) : moment(group.first_seen)}` : "once");
  const link = action.firstChild;
  link.href = explainLink(last);
  setText(link, "Explain exactly this");
  link.event = last;
}

const sameDay = (group) => group.first_seen.slice(0, 10) === group.last_seen.slice(0, 10);

function fixedItem(group) {
  const link = make("a", { href: explainLink(group.last) }, "Explain");
  link.event = group.last;
  return make("li", {}, code(group.origin, 120), ` ${reasonTitle(group)}, ${number(group.count)} requests. `, link);
}

function showAllowed(snapshot) {
  const rows = snapshot.allowed;
  byId("allowed-empty").hidden = rows.length > 0;
  byId("allowed-table").hidden = rows.length === 0;
  reconcile(byId("allowed-rows"), rows, ({ route, origin }) => JSON.stringify([route, origin]), () => make("tr", {},
    make("th", { scope: "row", "data-label": "Origin" }), make("td", { "data-label": "Route" }),
    make("td", { "data-label": "Rules" }), make("td", { class: "count", "data-label": "Count" })), (row, { origin, route, rules, count }) => {
    const [name, where, places, total] = row.children;
    if (!name.firstChild) name.append(code(origin, 200));
    setText(where, clean(route));
    const texts = rules.map((place) => `rule ${place.rule}${place.rule_id ? ` (${place.rule_id})` : ""} of ${place.policy ?? "a built-in policy"}`);
    setText(places, clean(texts.join(", "), 400) || "No rule in force lists it any more");
    setText(total, number(count));
  });
}
