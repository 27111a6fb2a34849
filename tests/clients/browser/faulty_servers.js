// The servers of tests/data/probe/servers.json: below /N/, they answer as in case N, each with one
// planted fault.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';

import { ROOT } from './proxy.js';

const OPEN = [['Access-Control-Allow-Origin', '*']];

/** Starts two servers for pages of `page`; returns the cases, each with its URL. */
export async function startFaultyServers(page) {
  const cases = JSON.parse(await readFile(join(ROOT, 'tests/data/probe/servers.json'), 'utf8'));
  const kept = new Map();
  const origins = [];

  function answer(request, response) {
    const origin = request.headers.origin;
    const [path] = request.url.split('?');
    const [, number, rest] = path.split('/');
    const one = cases[Number(number)];
    if (!one) {
      response.writeHead(404, OPEN.flat()).end();
      return;
    }
    let script;
    if (rest === 'k') {
      if (request.method === 'OPTIONS') script = one.preflight;
      else if (request.url === path && one.kept) script = one.kept;
      else if (!origin && one.without_origin) script = one.without_origin;
      else if (origin && origin !== page && one.to_others) script = one.to_others;
      else script = one.response;
    } else if (rest === '2') {
      [script] = one.hops;
    } else {
      script = one.missing ?? { status: 404, headers: OPEN };
    }
    if (!script) {
      request.socket.destroy();
      return;
    }
    const own = `${origins[0]}/${number}`;
    const value = (text) =>
      text
        .replaceAll('$PAGE', page)
        .replaceAll('$ORIGIN', origin ?? '*')
        .replaceAll('$URL', `${own}/k`)
        .replaceAll('$OTHER', `${origins[1]}/${number}`)
        .replaceAll('$AUTHORITY', own.replace('http://', 'http://user:S3CR3T@'));
    const headers = script.headers.map(([name, text]) => [name, value(text)]);
    let head = [script.status, [...headers, ['content-length', '0']].flat()];
    if (one.cache && request.method === 'GET') {
      if (!kept.has(request.url)) kept.set(request.url, head);
      head = kept.get(request.url);
    }
    response.writeHead(...head).end();
  }

  const servers = [createServer(answer), createServer(answer)];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    origins.push(`http://127.0.0.1:${server.address().port}`);
  }
  return {
    cases: cases.map((one, number) => ({ ...one, url: `${origins[0]}/${number}/k` })),
    async stop() {
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      }
    },
  };
}
