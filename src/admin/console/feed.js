// The live feed: one connection to /cors/live, and what the page keeps of it.

const MAX_EVENTS = 500;
const MAX_GROUPS = 200;
/** A snapshot comes every 5 seconds; after this long without one the connection counts as lost. */
const SILENCE = 15_000;
const RETRY = [1000, 2000, 5000, 10_000];

/** What is known now. `events` has the newest first. */
export const state = { connection: "connecting", lostAt: null, snapshot: null, groups: new Map(), events: [], received: 0 };

const listeners = new Set();
let source = null;
let watchdog = 0;
let attempts = 0;
let isScheduled = false;

/** Calls `listener` after changes, at most once for each frame of the screen. */
export function onChange(listener) {
  listeners.add(listener);
}

export function changed() {
  if (isScheduled) return;
  isScheduled = true;
  // A tab in the background draws no frames, but it must not fall behind for ever.
  setTimeout(() => {
    isScheduled = false;
    for (const listener of listeners) listener(state);
  }, 50);
}

export const groupKey = (group) =>
  JSON.stringify([group.origin, group.route ?? null, group.bucket ?? null, group.request, group.by, group.reason]);

/** Connects, and connects again for as long as the page is open. */
export function connect() {
  source?.close();
  clearTimeout(watchdog);
  source = new EventSource("/cors/live");
  watchdog = setTimeout(lost, SILENCE);
  source.addEventListener("snapshot", (message) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(lost, SILENCE);
    attempts = 0;
    takeSnapshot(JSON.parse(message.data));
  });
  source.addEventListener("cors", (message) => takeEvent(JSON.parse(message.data)));
  source.addEventListener("error", lost);
}

function lost() {
  source.close();
  clearTimeout(watchdog);
  state.lostAt ??= new Date().toISOString();
  state.connection = "lost";
  changed();
  watchdog = setTimeout(connect, RETRY[Math.min(attempts, RETRY.length - 1)]);
  attempts += 1;
}

function takeSnapshot(snapshot) {
  const restarted = state.snapshot && state.snapshot.started !== snapshot.started;
  if (restarted) state.events.length = 0;
  state.connection = "live";
  state.lostAt = null;
  state.snapshot = snapshot;
  state.groups = new Map(snapshot.refused.slice(0, MAX_GROUPS).map((group) => [groupKey(group), group]));
  changed();
}

function takeEvent(event) {
  state.received += 1;
  event.number = state.received;
  // Workers report in turns, so an event can be older than those before it.
  const place = state.events.findIndex(({ time }) => time <= event.time);
  state.events.splice(place < 0 ? state.events.length : place, 0, event);
  if (state.events.length > MAX_EVENTS) state.events.length = MAX_EVENTS;
  if (event.refused) addToGroup(event);
  addToMinute(event);
  changed();
}

/** Shows a refused request at once; the next snapshot has the exact counts. */
function addToGroup(event) {
  const { by, reason } = event.refused;
  const shown = { origin: event.origin, route: event.route ?? null, bucket: event.bucket ?? null, request: event.cors.request, by, reason };
  const key = groupKey(shown);
  const group = state.groups.get(key);
  if (group) {
    state.groups.set(key, { ...group, count: group.count + 1, last_seen: event.time, last: event });
    return;
  }
  if (state.groups.size >= MAX_GROUPS) {
    const oldest = [...state.groups].reduce((a, b) => (a[1].last_seen <= b[1].last_seen ? a : b));
    state.groups.delete(oldest[0]);
  }
  state.groups.set(key, { ...shown, count: 1, first_seen: event.time, last_seen: event.time, last: event });
}

function addToMinute(event) {
  const minute = state.snapshot?.minutes.at(-1);
  if (!minute) return;
  minute.requests += 1;
  const { cors } = event;
  if (cors.outcome === "allowed") minute.allowed[cors.request] += 1;
  if (cors.outcome === "denied" && cors.reason in minute.denied) minute.denied[cors.reason] += 1;
  if (cors.verdict in minute.verdicts) minute.verdicts[cors.verdict] += 1;
}
