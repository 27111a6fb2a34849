// The console: views, their links, and the state of the connection.

import { byId, clock, moment, setText } from "./console/dom.js";
import { filters, setFilters, showEvents, startEvents } from "./console/events.js";
import { showExplain } from "./console/explain.js";
import { connect, onChange, state } from "./console/feed.js";
import { fillForm, offerOrigins, startForm } from "./console/form.js";
import { showNow, startNow } from "./console/now.js";
import { showPolicies } from "./console/policies.js";
import { isFixed, recheck } from "./console/recheck.js";

const VIEWS = ["now", "events", "policies", "upstreams", "try", "explain"];
const TITLES = { now: "Now", events: "Events", policies: "Policies", upstreams: "Upstreams", try: "Try a request", explain: "Why was my request blocked?" };

// ---------------------------------------------------------------- views and links

/** The view and its query that the address names. */
function place() {
  const [name, query] = location.hash.slice(1).split(/\?(.*)/s);
  return { name: VIEWS.includes(name) ? name : "now", query: new URLSearchParams(query ?? "") };
}

/** The event of the row whose link was followed last. */
let followed = null;
let isFirst = true;

function show() {
  const { name, query } = place();
  for (const view of VIEWS) byId("view-" + view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === "#" + name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[name]} · s3cors`;
  if (name === "now" && query.has("sort")) byId("sort").value = query.get("sort");
  if (name === "events") setFilters(query);
  if (name === "try") fillForm(query);
  if (name === "explain") showExplain(query, followed);
  followed = null;
  render();
  // Focus follows the view, so that a screen reader reads its title.
  if (!isFirst) {
    byId("title-" + name).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  isFirst = false;
}

/** Changes the address of the current view. */
function link(name, query) {
  const text = query.toString();
  history.replaceState(null, "", "/cors#" + name + (text ? "?" + text : ""));
}

// ---------------------------------------------------------------- the state

const CONNECTION = { connecting: "Connecting…", live: "Live" };

function render() {
  const { snapshot } = state;
  const dot = byId("connection");
  dot.className = state.connection;
  setText(dot, CONNECTION[state.connection] ?? (snapshot ? `Connection lost at ${clock(state.lostAt)} UTC. Reconnecting…` : "Not connected. Trying again…"));
  const stale = byId("stale");
  stale.hidden = state.connection !== "lost";
  setText(stale, snapshot ? "What you see is from before the connection was lost. It updates as soon as s3cors answers."
    : "s3cors does not send live data. Is it running, and do fewer than 8 pages and `s3cors top` watch it?");
  if (snapshot) {
    setText(byId("process"), `${snapshot.phase} · generation ${snapshot.generation} · version ${snapshot.version}`);
    byId("process").title = "Started " + moment(snapshot.started);
    byId("dropped").hidden = !snapshot.dropped_events;
    setText(byId("dropped"), `${snapshot.dropped_events} events were dropped because requests came faster than this page reads them. The charts count all requests.`);
  }
  showNow(state);
  showEvents(state);
  showPolicies(state);
  offerOrigins(state);
  announce();
  recheck();
}

// ---------------------------------------------------------------- for screen readers

const QUIET_FOR = 15_000;
let announced = null;
let announcedAt = 0;

/** Says how many kinds of refused requests are new, at most every 15 seconds. */
function announce() {
  if (!state.snapshot) return;
  const open = [...state.groups.values()].filter((group) => !isFixed(group)).map((group) => JSON.stringify([group.origin, group.route, group.by, group.reason]));
  if (announced === null) {
    announced = new Set(open);
    return;
  }
  const fresh = new Set(open.filter((key) => !announced.has(key)));
  if (!fresh.size || Date.now() - announcedAt < QUIET_FOR) return;
  announcedAt = Date.now();
  announced = new Set(open);
  byId("announcer").textContent = fresh.size === 1 ? "1 new kind of refused request" : `${fresh.size} new kinds of refused requests`;
}

// ---------------------------------------------------------------- start

document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a");
  followed = anchor?.event ?? null;
  if (anchor?.hash === "#main") {
    // The address names a view; this link moves the focus alone.
    event.preventDefault();
    byId("main").focus();
  }
});
addEventListener("hashchange", show);
byId("minutes").addEventListener("toggle", render);
startNow(() => link("now", new URLSearchParams({ sort: byId("sort").value })));
startEvents(() => link("events", filters()));
startForm((query) => link("try", query));
onChange(render);

// Links of earlier versions, and of the log, have the request in the query.
if (location.search && !location.hash) history.replaceState(null, "", "/cors#try" + location.search);
show();
connect();
