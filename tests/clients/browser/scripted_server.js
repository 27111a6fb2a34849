// A server that answers each exchange byte by byte from a script, and records what browsers send.

import { once } from 'node:events';
import { createServer } from 'node:net';

/** The exchange's number is in the path: `/N`, or `/N.HOP` after redirects. */
export async function startScriptedServer() {
  let answers = new Map();
  let asked = new Map();
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    let pending = Buffer.alloc(0);
    socket.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      for (;;) {
        const end = pending.indexOf('\r\n\r\n');
        if (end < 0) return;
        const lines = pending.toString('latin1', 0, end).split('\r\n');
        const fields = new Map();
        for (const line of lines.slice(1)) {
          const colon = line.indexOf(':');
          fields.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
        }
        const length = Number(fields.get('content-length') ?? 0);
        if (pending.length < end + 4 + length) return;
        pending = pending.subarray(end + 4 + length);
        answer(socket, lines[0].split(' '), fields);
      }
    });
  }).listen(0, '127.0.0.1');

  function answer(socket, [method, target], fields) {
    const key = target.slice(1);
    const script = answers.get(key);
    if (!script) {
      socket.write('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    const requested = fields.get('access-control-request-method');
    const preflight = method === 'OPTIONS' && requested !== undefined;
    if (!asked.has(key)) asked.set(key, []);
    asked.get(key).push({
      preflight,
      method: preflight ? requested : method,
      headers: fields.get('access-control-request-headers') ?? '',
      origin: fields.get('origin'),
    });
    const response = preflight ? script.preflight : script.response;
    if (!response) {
      socket.destroy();
      return;
    }
    const head = [`HTTP/1.1 ${response.status} Scripted`];
    for (const [name, value] of response.headers) head.push(`${name}: ${value}`);
    let body = '';
    const framed = response.headers.some(([name]) => name.toLowerCase() === 'content-length');
    if (framed && method !== 'HEAD' && ![204, 304].includes(response.status)) body = 'ok';
    else if (!framed && ![204, 304].includes(response.status)) head.push('content-length: 0');
    socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  }

  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    /** Replaces the scripts: a map from path to `{ preflight, response }`. */
    load(scripts) {
      answers = scripts;
      asked = new Map();
    },
    asked: (key) => asked.get(key) ?? [],
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The exchanges of a page's own server, which also answers other requests. */
export class OwnScripts {
  answers = new Map();
  asked = new Map();

  /** Answers a request from its script; false: there is no script for its path. */
  answer(request, response) {
    const key = request.url.slice(1);
    const script = this.answers.get(key);
    if (!script) return false;
    const { origin, 'access-control-request-method': requested, 'access-control-request-headers': names = '' } = request.headers;
    const preflight = request.method === 'OPTIONS' && requested !== undefined;
    this.asked.set(key, [...(this.asked.get(key) ?? []), { preflight, method: requested ?? request.method, headers: names, origin }]);
    const { status, headers } = preflight ? script.preflight : script.response;
    const body = headers.some(([name]) => name.toLowerCase() === 'content-length') ? 'ok' : '';
    // Only the script's own fields.
    response.sendDate = false;
    response.removeHeader('connection');
    response.writeHead(status, 'Scripted', headers.flat());
    response.end(body);
    return true;
  }
}
