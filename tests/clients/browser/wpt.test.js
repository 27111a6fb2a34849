// The cases of web-platform-tests' CORS suites that are data (tests/data/fetch/README.md), in each engine: what they
// expect, and what `s3cors verdict` says.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startChromium, startFirefox, startWebkit } from './engines.js';
import { scripts } from './exchanges.js';
import { ROOT } from './proxy.js';
import { OwnScripts, startScriptedServer } from './scripted_server.js';
import { compare, judge } from './verdicts.js';

const CASES = readFileSync(join(ROOT, 'tests/data/fetch/wpt.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line));
/** The cases that a page without TLS can run. */
const PLAIN = CASES.filter(({ request }) => !request.url.startsWith('{secure}'));
/** The number of differences that a failure shows. */
const SHOWN = 5;

let servers;

before(async () => {
  servers = await Promise.all([startScriptedServer(), startScriptedServer()]);
});

after(async () => {
  for (const server of servers) await server.stop();
});

/** A response with its length, like servers send it. */
function framed(response) {
  const { status, headers } = response;
  if ([204, 304].includes(status) || headers.some(([name]) => name.toLowerCase() === 'content-length')) return response;
  return { status, headers: [...headers, ['content-length', '2']] };
}

/** A case with the addresses of this run; its number is the path. */
function placed(one, number, places) {
  const text = JSON.stringify({ ...one, request: { ...one.request, url: `${one.request.url}/${number}` } });
  const filled = JSON.parse(text.replace(/\{(\w+)\}/g, (whole, name) => places[name] ?? (name === 'next' ? `${number}.1` : whole)));
  const redirected = filled.redirected?.map((hop) => ({ ...hop, response: framed(hop.response) }));
  return { ...filled, response: framed(filled.response), redirected };
}

/** How a browser differs from what web-platform-tests expect. */
function surprise({ expect, redirected }, seen, asked) {
  const { outcome, preflight, readable = [], unreadable = [], origin, asks } = expect;
  if (seen.outcome !== outcome) return { what: 'outcome', expected: outcome, seen: seen.outcome, lines: seen.lines };
  const missing = readable.filter((name) => !seen.readable.includes(name));
  const unwanted = unreadable.filter((name) => seen.readable.includes(name));
  if (missing.length || unwanted.length) return { what: 'readable fields', missing, unwanted };
  const preflights = asked.filter((request) => request.preflight);
  if (preflight !== undefined && !redirected && preflights.length > 0 !== preflight) return { what: 'preflight', expected: preflight };
  const names = preflights[0]?.headers.split(',').map((name) => name.trim()).filter(Boolean).sort();
  if (asks && JSON.stringify(names) !== JSON.stringify(asks)) return { what: 'requested headers', expected: asks, seen: names };
  const last = asked.findLast((request) => !request.preflight);
  if (origin !== undefined && last.origin !== origin) return { what: 'origin', expected: origin, seen: last.origin };
  return undefined;
}

for (const start of [startChromium, startFirefox, startWebkit]) {
  test(`${start.name.slice('start'.length)} agrees with web-platform-tests and the verdict`, async () => {
    const own = new OwnScripts();
    const engine = await start({ scripts: own });
    try {
      const [server, other] = servers.map(({ origin }) => origin);
      const [host, serverHost, otherHost] = [engine.origin, server, other].map((origin) => new URL(origin).host);
      const places = { origin: engine.origin, host, server, server_host: serverHost, other, other_host: otherHost };
      places.ORIGIN = engine.origin.toUpperCase();
      places.parent = host.replace(/^[^.]+\./, '');
      const list = PLAIN.map((one, number) => placed(one, number, places));
      const answers = scripts(list);
      for (const one of servers) one.load(answers);
      own.answers = answers;
      const exchanges = list.map(({ request, preflight, response, redirected }) => ({ request, preflight, response, redirected }));
      const verdicts = await judge(exchanges);
      const seen = await engine.run(exchanges.map(({ request }) => request));
      const differences = [];
      list.forEach((one, number) => {
        const at = (key) => [...servers.flatMap((server) => server.asked(key)), ...(own.asked.get(key) ?? [])];
        const asked = [...at(`${number}`), ...at(`${number}.1`)];
        const difference = compare(engine.name, exchanges[number], verdicts[number], seen[number], asked);
        if (difference) differences.push({ name: one.name, ...difference, exchange: JSON.stringify(exchanges[number]) });
        // If an engine departs from the expectation, the verdict says so, too.
        const unexpected = one.unless?.includes(engine.name) ? undefined : surprise(one, seen[number], asked);
        if (unexpected) differences.push({ wpt: one.wpt, name: one.name, ...unexpected, exchange: JSON.stringify(exchanges[number]) });
      });
      assert.deepEqual(differences.slice(0, SHOWN), [], `${differences.length} of ${list.length} differ`);
    } finally {
      await engine.stop();
    }
  });
}
