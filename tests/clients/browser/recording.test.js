// Compares `s3cors probe` and `s3cors diagnose` with Chromium, for servers with one fault each and
// for generated exchanges.
//
// Chromium fetches from all of them and records a NetLog, including all secrets. What the DevTools
// protocol reports of each fetch is what `probe` must say of the same server, and `diagnose` of the
// NetLog.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startChromium } from './engines.js';
import { exchanges, scripts } from './exchanges.js';
import { startFaultyServers } from './faulty_servers.js';
import { BINARY } from './proxy.js';
import { startScriptedServer } from './scripted_server.js';

const COUNT = Number(process.env.S3CORS_EXCHANGES ?? 400);
const SEED = Number(process.env.S3CORS_SEED ?? 2);
const SECRET = 'S3CR3T';

let folder;
let netlog;
/** Each fetch: the request, and its result in Chromium. */
let fetched;
let faulty;
let cases;
let page;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 's3cors-recording-'));
  netlog = join(folder, 'net.json');
  const engine = await startChromium({ flags: [`--log-net-log=${netlog}`, '--net-log-capture-mode=IncludeSensitive'] });
  const scripted = await Promise.all([startScriptedServer(), startScriptedServer()]);
  try {
    page = engine.origin;
    faulty = await startFaultyServers(page);
    cases = faulty.cases.map(({ request, ...one }) => ({
      ...one,
      request: { url: one.url, origin: page, method: request.method ?? 'GET', headers: request.headers ?? [], credentials: request.credentials ?? 'omit', mode: 'cors' },
      read: request.read ?? [],
    }));
    const [server, other] = scripted.map(({ origin }) => origin);
    const list = exchanges({ seed: SEED, count: COUNT, origin: page, server, other });
    for (const one of scripted) one.load(scripts(list));
    const seen = await engine.run(cases.map(({ request }) => request));
    cases.forEach((one, index) => Object.assign(one, { seen: seen[index] }));
    const more = await engine.run(list.map(({ request }) => request));
    // Secrets in every place that can have some.
    const signed = `${server}/0?X-Amz-Signature=${SECRET}&x%2Damz%2Dsecurity%2Dtoken=${SECRET}&${SECRET}`;
    const secret = { url: signed, origin: page, method: 'GET', headers: [['authorization', `Bearer ${SECRET}`], ['x-api-key', SECRET]], credentials: 'include', mode: 'cors' };
    const [last] = await engine.run([secret]);
    fetched = [
      ...cases.map(({ request, seen }) => ({ request, seen })),
      ...list.map(({ request }, index) => ({ request, seen: more[index] })),
      { request: secret, seen: last },
    ];
  } finally {
    await engine.stop();
    for (const one of scripted) await one.stop();
  }
});

after(async () => {
  await faulty?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Runs the program; returns its exit code and output. */
function run(...args) {
  return new Promise((resolve, reject) => {
    execFile(BINARY, args, { maxBuffer: 2 ** 28 }, (error, output, complaint) => {
      if (error && typeof error.code !== 'number') reject(error);
      else resolve({ code: error?.code ?? 0, output, complaint });
    });
  });
}

test('probe agrees with Chromium about each server with a fault', async () => {
  const differences = [];
  for (const { name, request, read, seen, expect } of cases) {
    const headers = request.headers.flatMap(([field, value]) => ['--header', `${field}: ${value}`]);
    const wanted = read.flatMap((field) => ['--read', field]);
    const args = [request.url, '--origin', page, '--method', request.method, '--credentials', request.credentials, ...headers, ...wanted];
    const { output, complaint } = await run('probe', ...args, '--send', '--format', 'json');
    assert.equal(complaint, '', name);
    assert.ok(!output.includes(SECRET), name);
    const { outcome, verdict, findings } = JSON.parse(output);
    const said = { outcome, error: verdict.error ?? undefined, parameter: verdict.error ? verdict.parameter : undefined };
    const chromium = { outcome: seen.outcome, error: seen.cors?.corsError, parameter: seen.cors?.failedParameter };
    if (outcome === 'readable') Object.assign(said, { readable: verdict.readable_headers });
    // The browser's server sends how long it keeps the connection, and its time.
    if (outcome === 'readable') Object.assign(chromium, { readable: seen.readable });
    const found = findings.map(({ id }) => id).sort();
    try {
      assert.deepEqual(said, chromium);
      assert.deepEqual(found, expect.findings);
    } catch (error) {
      differences.push(`${name}: ${error.message}`);
    }
  }
  assert.deepEqual(differences, []);
});

/** The number of occurrences of each reason, by method, name and parameter. */
function counted(list) {
  const counts = new Map();
  for (const { method, error, parameter, count } of list) {
    const key = JSON.stringify([method, error, parameter]);
    counts.set(key, (counts.get(key) ?? 0) + count);
  }
  return Object.fromEntries([...counts].sort());
}

/** A method in the form that Chromium sends. */
const sent = (method) => (/^(delete|get|head|options|post|put)$/i.test(method) ? method.toUpperCase() : method);

test('diagnose finds why Chromium blocked each request in a NetLog', async () => {
  const blocked = fetched.filter(({ seen }) => seen.cors?.corsError);
  assert.ok(blocked.length >= 30, `${blocked.length}`);
  const expected = counted(
    blocked.map(({ request, seen }) => ({
      method: sent(request.method),
      error: seen.cors.corsError,
      parameter: seen.cors.failedParameter,
      count: 1,
    })),
  );
  const { code, output, complaint } = await run('diagnose', '--format', 'json', netlog);
  assert.deepEqual([code, complaint], [1, '']);
  const document = JSON.parse(output);
  assert.equal(document.broken_off, null);
  const said = counted(document.blocked);
  const keys = [...new Set([...Object.keys(expected), ...Object.keys(said)])];
  const differences = keys.filter((key) => said[key] !== expected[key]).map((key) => `${key}: ${said[key]}, not ${expected[key]}`);
  assert.deepEqual(differences, []);
  // Each console's message, except for the few requests that are incomplete in the NetLog.
  const silent = document.blocked.filter(({ messages }) => !messages.chromium);
  assert.deepEqual(silent, []);

  const recorded = JSON.parse(await readFile(netlog, 'utf8'));
  const type = recorded.constants.logEventTypes.CORS_PREFLIGHT_ERROR;
  const preflights = recorded.events.filter((event) => event.type === type && event.params?.['cors-error'] !== undefined);
  assert.ok(preflights.length >= 15, `${preflights.length}`);
});

test('no secret of a NetLog is printed', async () => {
  assert.ok((await readFile(netlog, 'utf8')).includes(SECRET));
  for (const format of ['human', 'json']) {
    const { output } = await run('diagnose', '--format', format, netlog);
    assert.ok(!output.includes(SECRET), format);
  }
});

test('a NetLog of a killed browser is read up to where it ends', async () => {
  const whole = await readFile(netlog);
  const cut = join(folder, 'cut.json');
  const events = whole.indexOf('"events"');
  for (const share of [0.3, 0.6, 0.9]) {
    await writeFile(cut, whole.subarray(0, events + Math.floor((whole.length - events) * share)));
    const { code, output, complaint } = await run('diagnose', '--format', 'json', cut);
    assert.deepEqual([code, complaint], [1, '']);
    assert.ok(JSON.parse(output).broken_off);
  }
});
