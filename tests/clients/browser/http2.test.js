// Over HTTP/2, Chromium gets Early Hints (RFC 8297) and opens WebSockets on the page's own connection (RFC 8441).

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { SITE, startBrowser } from './pages.js';
import { startProxy } from './proxy.js';

const stops = [];
let proxy;
let upgrades = 0;

before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-'));
  stops.push(() => rm(folder, { recursive: true }));
  const certificate = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const names = ['-subj', '/CN=http2', '-addext', `subjectAltName=DNS:*.${SITE}`, '-days', '2'];
  const files = ['-keyout', join(folder, 'site.pem'), '-out', join(folder, 'site.crt')];
  execFileSync('openssl', [...certificate, ...names, ...files], { stdio: 'ignore' });
  const routes = [{ name: 'http2', host: `http2.${SITE}`, upstream: await startUpstream() }];
  proxy = await startProxy(folder, routes, 'tls = [{ certificate = "site.crt", key = "site.pem" }]');
  stops.push(() => proxy.program.stop());
});

after(async () => {
  for (const stop of stops.reverse()) await stop();
});

/** An upstream that hints at a style sheet, takes a while to answer, and echoes the messages of WebSockets. */
async function startUpstream() {
  const server = createServer((request, response) => {
    if (request.url === '/style.css') {
      response.setHeader('Content-Type', 'text/css');
      response.setHeader('Cache-Control', 'max-age=60');
      response.end('body { color: black }');
      return;
    }
    response.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' }, () => {
      response.setHeader('Content-Type', 'text/html');
      response.end('<!doctype html><title>A page</title><link rel="stylesheet" href="/style.css">');
    });
  });
  server.on('upgrade', (request, socket) => {
    upgrades += 1;
    socket.on('error', () => {});
    const key = request.headers['sec-websocket-key'];
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'];
    socket.write([...lines, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'));
    let received = Buffer.alloc(0);
    socket.on('data', (piece) => {
      received = Buffer.concat([received, piece]);
      // Frames of up to 125 bytes, masked (RFC 6455, 5.2).
      while (received.length >= 6 && received.length >= 6 + (received[1] & 127)) {
        const end = 6 + (received[1] & 127);
        const payload = received.subarray(6, end).map((byte, index) => byte ^ received[2 + (index % 4)]);
        socket.write(Buffer.concat([Buffer.from([received[0], payload.length]), payload]));
        if ((received[0] & 15) === 8) socket.end();
        received = received.subarray(end);
      }
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  stops.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** Sends messages on a WebSocket, and returns their echoes and how it closed. */
function echoes([url, messages]) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    const received = [];
    socket.onopen = () => messages.forEach((message) => socket.send(message));
    socket.onmessage = ({ data }) => {
      received.push(data);
      if (received.length === messages.length) socket.close(1000, 'done');
    };
    socket.onclose = ({ code, reason, wasClean }) => resolve({ received, code, reason, wasClean });
    socket.onerror = () => reject(new Error('the WebSocket failed'));
  });
}

test('Chromium gets Early Hints', async () => {
  const browser = await startBrowser(['--ignore-certificate-errors']);
  try {
    const page = await browser.visit(`https://http2.${SITE}:${proxy.port}`);
    const seen = await page.evaluate(() => {
      const [{ nextHopProtocol, firstInterimResponseStart, finalResponseHeadersStart }] = performance.getEntriesByType('navigation');
      return { nextHopProtocol, hinted: firstInterimResponseStart > 0 && finalResponseHeadersStart >= firstInterimResponseStart };
    });
    assert.deepEqual(seen, { nextHopProtocol: 'h2', hinted: true });
  } finally {
    await browser.stop();
  }
});

test('Chromium opens WebSockets over HTTP/2', async () => {
  const browser = await startBrowser(['--ignore-certificate-errors']);
  try {
    const page = await browser.visit(`https://http2.${SITE}:${proxy.port}`);
    const protocol = await page.context().newCDPSession(page);
    await protocol.send('Network.enable');
    const statuses = [];
    protocol.on('Network.webSocketHandshakeResponseReceived', ({ response }) => statuses.push(response.status));
    const messages = ['Hello', 'κόσμε', 'x'.repeat(125)];
    for (let time = 1; time <= 3; time += 1) {
      const seen = await page.evaluate(echoes, [`wss://http2.${SITE}:${proxy.port}/echo`, messages]);
      assert.deepEqual(seen, { received: messages, code: 1000, reason: 'done', wasClean: true });
      assert.equal(upgrades, time);
    }
    // Over HTTP/1.1 it would be 101.
    assert.deepEqual(statuses, [200, 200, 200]);
  } finally {
    await browser.stop();
  }
});
