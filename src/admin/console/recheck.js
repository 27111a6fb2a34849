// After a reload: which refused requests would be allowed now.

import { changed, state } from "./feed.js";

/** By the path of the explanation: the generation that was asked, and whether it allows the request. */
const checked = new Map();
const MAX_CHECKED = 400;
let isRunning = false;

/** Whether the config in force allows what this group was refused for. */
export function isFixed(group) {
  const found = checked.get(group.last.explain);
  return Boolean(found?.allowed) && found.generation > (group.last.generation ?? 0);
}

/** The step of an explanation that decided the event's request. */
export const stepOf = (answer, event) => (event.cors.request === "preflight" ? answer.preflight : answer.actual);

/** Asks for every group that an older config refused. One request at a time. */
export async function recheck() {
  if (isRunning || !state.snapshot) return;
  isRunning = true;
  try {
    for (;;) {
      const { generation } = state.snapshot;
      const stale = [...state.groups.values()].find(({ by, last }) =>
        by === "policy" && last.explain && (last.generation ?? generation) < generation && checked.get(last.explain)?.generation !== generation);
      if (!stale) return;
      const allowed = await asks(stale.last);
      checked.set(stale.last.explain, { generation, allowed });
      if (checked.size > MAX_CHECKED) checked.delete(checked.keys().next().value);
      if (allowed) changed();
    }
  } finally {
    isRunning = false;
  }
}

async function asks(event) {
  try {
    const response = await fetch(event.explain, { headers: { Accept: "application/json" } });
    if (!response.ok) return false;
    return stepOf(await response.json(), event)?.outcome === "allowed";
  } catch {
    return false;
  }
}
