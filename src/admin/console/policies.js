// What is in force: policies, what is not in force and why, and the upstreams.

import { byId, clean, code, copyable, definitions, duration, make, moment, number, reconcile, setText } from "./dom.js";

export function showPolicies({ snapshot }) {
  if (!snapshot) return;
  showProblems(snapshot);
  const { policies } = snapshot;
  byId("policies-empty").hidden = policies.length > 0;
  const more = snapshot.policies_count - policies.length;
  setText(byId("policies-count"), more > 0 ? `The first ${policies.length} of ${number(snapshot.policies_count)}.` : "");
  const key = (policy) => JSON.stringify([policy.route, policy.bucket, policy.content_hash, policy.loaded_at, policy.last_error]);
  // One policy alone is shown whole.
  reconcile(byId("policies-list"), policies, key, (policy) => policyItem(policy, policies.length === 1), (item, policy) => {
    const age = item.querySelector(".age");
    setText(age, policy.age_seconds === null ? "" : `in force for ${duration(policy.age_seconds)}`);
  });
  showUpstreams(snapshot);
}

/** What a policy is for. */
const scope = ({ route, bucket }) => (bucket === null ? `Route ${route}` : bucket === "" ? `Service root of route ${route}` : `Bucket ${bucket} of route ${route}`);

function policyItem(policy, isOpen) {
  const { warnings, last_error: error, text } = policy;
  const badge = error ? make("span", { class: "badge refused" }, "newer file not in force")
    : warnings.length ? make("span", { class: "badge other" }, `${warnings.length} warning${warnings.length === 1 ? "" : "s"}`) : null;
  return make("li", {}, make("details", { open: isOpen ? "" : false },
    make("summary", {}, make("span", { class: "name" }, clean(scope(policy), 200)), " ", make("span", { class: "quiet age" }), " ", badge),
    error ? make("p", { class: "notice" }, make("strong", {}, "The newer file is not in force: "), clean(error, 2000)) : null,
    definitions([
      ["File", policy.file === null ? "built in" : code(policy.file)],
      ["Rules", String(policy.rules)],
      ["Read", policy.loaded_at ? moment(policy.loaded_at) : null],
      ["Content hash", policy.content_hash ? code(policy.content_hash.slice(0, 16)) : null],
    ]),
    warnings.length ? [make("h3", {}, "Warnings"), make("ul", {}, warnings.map((warning) => make("li", {}, clean(warning, 1000))))] : null,
    text ? copyable(text, "Copy policy") : make("p", { class: "quiet" }, "The text is too long to show here: see the file.")));
}

/** Everything that is not in force, once. */
function showProblems(snapshot) {
  const problems = [];
  const said = new Set();
  const add = (error, ...parts) => {
    if (said.has(error)) return;
    said.add(error);
    problems.push([error, ...parts]);
  };
  for (const policy of snapshot.policies) {
    if (policy.last_error) add(policy.last_error, `${scope(policy)}, `, code(policy.file ?? ""), ": ", clean(policy.last_error, 1000));
  }
  for (const file of snapshot.out_of_date) add(file.error, code(file.file), ` since ${moment(file.since)}: `, clean(file.error, 1000));
  const reload = snapshot.last_reload;
  if (reload?.error && ![...said].some((error) => reload.error.includes(error))) add(reload.error, `Reload at ${moment(reload.at)}: `, clean(reload.error, 1000));
  const restart = snapshot.restart_needed_for;
  if (restart.length) add("restart", "Changed, and in force after a restart: ", code(restart.join(", ")));
  const failing = snapshot.upstreams.filter((upstream) => !upstream.healthy);
  byId("problems").hidden = problems.length === 0;
  reconcile(byId("problems-list"), problems, ([error]) => error, ([, ...parts]) => make("li", {}, parts));
  setText(byId("problem-count"), problems.length ? String(problems.length) : "");
  setText(byId("failing-count"), failing.length ? String(failing.length) : "");
}

function showUpstreams(snapshot) {
  const { upstreams } = snapshot;
  const more = snapshot.upstreams_count - upstreams.length;
  setText(byId("upstreams-count"), more > 0 ? `The first ${upstreams.length} of ${number(snapshot.upstreams_count)}.` : "");
  reconcile(byId("upstreams-rows"), upstreams, ({ route, upstream }) => JSON.stringify([route, upstream]), () => make("tr", {},
    make("th", { scope: "row", "data-label": "Upstream" }), make("td", { "data-label": "Route" }),
    make("td", { "data-label": "State" }), make("td", { "data-label": "Details" })), (row, upstream) => {
    const [name, route, health, details] = row.children;
    if (!name.firstChild) name.append(code(upstream.upstream));
    setText(route, clean(upstream.route, 100));
    const failures = upstream.consecutive_failures;
    const [kind, text] = !upstream.healthy ? ["refused", "✗ Not used"] : failures ? ["other", "! Failing"] : ["allowed", "✓ Healthy"];
    setText(health, text);
    health.className = "outcome " + kind;
    setText(details, [
      failures ? `${number(failures)} failure${failures === 1 ? "" : "s"} in a row` : null,
      upstream.ejected_until ? `not used until ${moment(upstream.ejected_until)}` : null,
      upstream.failing_checks ? "health checks fail" : null,
      upstream.failed_check ? clean(upstream.failed_check) : null,
    ].filter(Boolean).join("; "));
  });
}
