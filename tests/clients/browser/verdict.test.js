// `s3cors verdict` against the browsers: generated exchanges, served by scripted servers, fetched
// by a page.
//
// S3CORS_EXCHANGES sets the number per engine, S3CORS_SEED the seed.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { startChromium, startFirefox, startWebkit } from './engines.js';
import { exchanges, scripts } from './exchanges.js';
import { startScriptedServer } from './scripted_server.js';
import { compare, judge } from './verdicts.js';

const COUNT = Number(process.env.S3CORS_EXCHANGES ?? 1000);
const SEED = Number(process.env.S3CORS_SEED ?? 1);
/** The number of fetches before a page's results are collected. */
const BATCH = 500;
/** The number of differences that a failure shows. */
const SHOWN = 5;

let servers;

before(async () => {
  servers = await Promise.all([startScriptedServer(), startScriptedServer()]);
});

after(async () => {
  for (const server of servers) await server.stop();
});

for (const start of [startChromium, startFirefox, startWebkit]) {
  test(`${start.name.slice('start'.length)} agrees with the verdict`, async () => {
    const engine = await start();
    try {
      const [server, other] = servers.map(({ origin }) => origin);
      const list = exchanges({ seed: SEED, count: COUNT, origin: engine.origin, server, other });
      const answers = scripts(list);
      for (const one of servers) one.load(answers);
      const verdicts = await judge(list);
      const differences = [];
      for (let first = 0; first < list.length; first += BATCH) {
        const batch = list.slice(first, first + BATCH);
        const seen = await engine.run(batch.map(({ request }) => request));
        batch.forEach((exchange, index) => {
          const number = first + index;
          const asked = servers.flatMap((one) => one.asked(String(number)));
          const difference = compare(engine.name, exchange, verdicts[number], seen[index], asked);
          if (difference) differences.push({ number, ...difference, exchange: JSON.stringify(exchange) });
        });
      }
      assert.deepEqual(differences.slice(0, SHOWN), [], `${differences.length} of ${list.length} differ`);
    } finally {
      await engine.stop();
    }
  });
}

// The effect of `Access-Control-Max-Age`: each URL is fetched twice in a row, and the preflights
// are counted.
for (const start of [startChromium, startFirefox, startWebkit]) {
  test(`${start.name.slice('start'.length)} caches a preflight for the verdict's time`, async () => {
    const engine = await start();
    try {
      const ages = [undefined, '0', '60', '600', '86401', '99999999999999999999', '-1', 'x', '', '1.5', '60, 60', '+60', '60 '];
      const allow = [['Access-Control-Allow-Origin', '*'], ['Access-Control-Allow-Methods', 'PUT']];
      const response = { status: 200, headers: [...allow, ['content-length', '2']] };
      const named = servers[0].origin.replace('127.0.0.1', 'localhost');
      const cases = [named, servers[0].origin].flatMap((server) => ages.map((age) => [server, age]));
      const list = cases.map(([server, age], number) => ({
        request: { origin: engine.origin, url: `${server}/${number}`, method: 'PUT', headers: [], credentials: 'omit', mode: 'cors' },
        preflight: { status: 200, headers: age === undefined ? allow : [...allow, ['Access-Control-Max-Age', age]] },
        response,
      }));
      servers[0].load(scripts(list));
      const verdicts = await judge(list);
      const requests = list.map(({ request }) => ({ ...request, cache: 'default' }));
      await engine.run([...requests, ...requests], 1);
      const seen = cases.map((name, number) => {
        const preflights = servers[0].asked(String(number)).filter(({ preflight }) => preflight);
        return [...name, preflights.length === 1];
      });
      const said = cases.map((name, number) => [...name, verdicts[number].cache_seconds[engine.name] > 0]);
      assert.deepEqual(seen, said);
    } finally {
      await engine.stop();
    }
  });
}

// The same after a redirect: the second fetch sends no preflight only if neither URL needs one.
for (const start of [startChromium, startFirefox, startWebkit]) {
  test(`${start.name.slice('start'.length)} caches the preflights of a redirect for the verdict's time`, async () => {
    const engine = await start();
    try {
      const ages = [undefined, '0', '60'];
      const allow = [['Access-Control-Allow-Origin', '*'], ['Access-Control-Allow-Methods', 'PUT'], ['content-length', '2']];
      const preflight = (age) => ({ status: 200, headers: age === undefined ? allow : [...allow, ['Access-Control-Max-Age', age]] });
      const [server, other] = servers.map(({ origin }) => origin.replace('127.0.0.1', 'localhost'));
      const cases = [server, other].flatMap((to) => ages.flatMap((first) => ages.map((second) => [to === server, first, second, to])));
      const list = cases.map(([, first, second, to], number) => ({
        request: { origin: engine.origin, url: `${server}/${number}`, method: 'PUT', headers: [], credentials: 'omit', mode: 'cors' },
        preflight: preflight(first),
        response: { status: 307, headers: [...allow, ['Location', `${to}/${number}.1`]] },
        redirected: [{ preflight: preflight(second), response: { status: 200, headers: allow } }],
      }));
      const answers = scripts(list);
      for (const one of servers) one.load(answers);
      const verdicts = await judge(list);
      const requests = list.map(({ request }) => ({ ...request, cache: 'default' }));
      const preflights = (number) =>
        servers.flatMap((one) => [...one.asked(`${number}`), ...one.asked(`${number}.1`)]).filter(({ preflight }) => preflight).length;
      await engine.run(requests, 1);
      const once = cases.map((_, number) => preflights(number));
      await engine.run(requests, 1);
      const line = ([same, first, second], ...rest) => JSON.stringify([same ? 'same server' : 'other server', first ?? '', second ?? '', ...rest]);
      const seen = cases.map((name, number) => line(name, once[number], preflights(number) === once[number]));
      const said = cases.map((name, number) => line(name, 2, verdicts[number].cache_seconds[engine.name] > 0));
      assert.deepEqual(seen, said);
    } finally {
      await engine.stop();
    }
  });
}
