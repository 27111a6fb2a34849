// fetch() in Chromium, Firefox and WebKitGTK: page on one origin, bucket behind the proxy on another.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

import { BROWSERS } from './browsers.js';
import { fetchIn, REFUSED, SITE, startPages } from './pages.js';
import { freePorts } from './programs.js';
import { startProxy } from './proxy.js';

const stops = [];
let proxy;
let pages;
let app;
let stranger;
/** What reached the upstream: "METHOD /target", with the cookie if there was one. */
let arrived = [];
/** Emits an event when a client leaves a stream of events. */
const left = new EventEmitter();

const bucket = (name) => `http://${name}.${SITE}:${proxy.port}`;

before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-'));
  stops.push(() => rm(folder, { recursive: true }));

  const upstream = await startUpstream();
  const [closed] = await freePorts(1);
  pages = await startPages();
  stops.push(() => pages.stop());
  const origins = [pages.origin('app'), pages.origin('named')];
  const all = { methods: ['GET', 'HEAD', 'PUT', 'DELETE'], headers: ['*'] };
  const routes = [
    { name: 'named', rules: [{ origins, ...all, expose: ['ETag'], maxAge: 600 }] },
    { name: 'uncached', rules: [{ origins, ...all, maxAge: 0 }] },
    { name: 'readonly', rules: [{ origins, methods: ['GET'] }] },
    { name: 'open', rules: [{ origins: ['*'], methods: ['GET', 'PUT'] }] },
    { name: 'sandboxed', rules: [{ origins: ['null'], methods: ['GET'] }] },
    { name: 'gone', upstream: `http://127.0.0.1:${closed}`, rules: [{ origins, ...all }] },
  ];
  proxy = await startProxy(
    folder,
    routes.map((route) => ({ upstream, host: `${route.name}.${SITE}`, ...route })),
  );
  stops.push(() => proxy.program.stop());
});

beforeEach(() => {
  arrived = [];
});

after(async () => {
  for (const stop of stops.reverse()) await stop();
});

/** An upstream whose CORS fields are all wrong. */
async function startUpstream() {
  const server = createServer((request, response) => {
    const cookie = request.headers.cookie ? ` with ${request.headers.cookie}` : '';
    arrived.push(`${request.method} ${request.url}${cookie}`);
    response.setHeader('Access-Control-Allow-Origin', 'https://elsewhere.example');
    response.setHeader('Access-Control-Expose-Headers', 'x-hidden');
    response.setHeader('ETag', '"tag"');
    response.setHeader('x-hidden', 'hidden');
    if (request.url.startsWith('/cached')) response.setHeader('Cache-Control', 'max-age=600');
    if (request.url.startsWith('/login')) response.setHeader('Set-Cookie', 'session=1; SameSite=Lax; Path=/');
    if (request.url.startsWith('/missing')) response.statusCode = 404;
    if (request.url.startsWith('/moved')) {
      response.statusCode = 307;
      response.setHeader('Location', '/object');
    }
    if (request.url.startsWith('/away?')) {
      response.statusCode = 307;
      response.setHeader('Location', decodeURIComponent(request.url.slice('/away?'.length)));
    }
    if (request.url.startsWith('/events')) {
      response.setHeader('Content-Type', 'text/event-stream');
      response.write('data: first\n\n');
      response.on('close', () => left.emit('left'));
      return;
    }
    request.resume();
    request.on('end', () => response.end(request.method === 'PUT' ? '' : `body of ${request.url}`));
  }).listen(0, '127.0.0.1');
  server.on('upgrade', (request, socket) => {
    const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash('sha1').update(key).digest('base64');
    const head = ['HTTP/1.1 101 Switching Protocols', 'Connection: Upgrade', 'Upgrade: websocket'];
    socket.write([...head, `Sec-WebSocket-Accept: ${accept}`, '', ''].join('\r\n'));
    // One unmasked text frame with five letters.
    socket.write(Buffer.from([0x81, 5, ...Buffer.from('hello')]));
    socket.on('error', () => {});
    socket.on('data', () => socket.end());
  });
  await once(server, 'listening');
  stops.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${server.address().port}`;
}

const put = (fields = {}) => ({ method: 'PUT', body: 'content', headers: { 'x-amz-meta-a': '1', ...fields } });
const preflights = (route) =>
  proxy.metric('s3cors_cors_decisions_total', { route, request: 'preflight', outcome: 'allowed' });

for (const [name, start] of Object.entries(BROWSERS)) {
  describe(name, () => {
    let browser;

    before(async () => {
      browser = await start();
      app = await browser.visit(pages.origin('app'));
      stranger = await browser.visit(pages.origin('stranger'));
    });

    after(async () => {
      await browser?.stop();
    });

    test('a simple GET of an allowed origin is readable, and so is the field that is exposed', async () => {
      const seen = await fetchIn(app, `${bucket('named')}/object`);
      assert.equal(seen.text, 'body of /object');
      assert.equal(seen.type, 'cors');
      assert.equal(seen.fields.etag, '"tag"');
      assert.equal(seen.fields['x-hidden'], undefined, 'the upstream exposed it, the policy does not');
    });

    test('a field that no rule exposes stays hidden', async () => {
      const seen = await fetchIn(app, `${bucket('readonly')}/object`);
      assert.equal(seen.status, 200);
      assert.equal(seen.fields.etag, undefined);
    });

    test('a simple GET of another origin is carried out, but its response is withheld', async () => {
      assert.deepEqual(await fetchIn(stranger, `${bucket('named')}/object`), REFUSED);
      assert.deepEqual(arrived, ['GET /object']);
    });

    test('a PUT has a preflight that the upstream never sees', async () => {
      const seen = await fetchIn(app, `${bucket('named')}/new`, put());
      assert.deepEqual([seen.status, seen.fields.etag], [200, '"tag"']);
      assert.deepEqual(arrived, ['PUT /new']);
    });

    test('a PUT from another origin, another method, or one with other fields never leaves the browser', async () => {
      assert.deepEqual(await fetchIn(stranger, `${bucket('named')}/new`, put()), REFUSED);
      assert.deepEqual(await fetchIn(app, `${bucket('readonly')}/new`, put()), REFUSED);
      assert.deepEqual(await fetchIn(app, `${bucket('open')}/new`, put()), REFUSED);
      assert.deepEqual(arrived, []);
    });

    test('a preflight is cached for the time in Max-Age', async () => {
      const before = await preflights('named');
      for (let time = 0; time < 3; time += 1) {
        assert.equal((await fetchIn(app, `${bucket('named')}/cached-preflight`, put())).status, 200);
      }
      assert.equal((await preflights('named')) - before, 1);
      assert.equal(arrived.length, 3);
    });

    test('a preflight with Max-Age 0 is not cached', async () => {
      const before = await preflights('uncached');
      for (let time = 0; time < 3; time += 1) {
        assert.equal((await fetchIn(app, `${bucket('uncached')}/object`, put())).status, 200);
      }
      assert.equal((await preflights('uncached')) - before, 3);
    });

    test('credentials are sent to a bucket that lists the origin, and its response is readable', async () => {
      const credentials = 'include';
      // WebKitGTK keeps no cookie of a host that differs from the page's if both are below
      // localhost.
      const page = name === 'WebKitGTK' ? await browser.visit(pages.origin('named')) : app;
      assert.equal((await fetchIn(page, `${bucket('named')}/login`, { credentials })).status, 200);
      const seen = await fetchIn(page, `${bucket('named')}/private`, { credentials });
      assert.equal(seen.text, 'body of /private');
      assert.deepEqual(arrived, ['GET /login', 'GET /private with session=1']);
    });

    test('the response to a request with credentials is withheld if the policy has *', async () => {
      assert.deepEqual(await fetchIn(app, `${bucket('open')}/object`, { credentials: 'include' }), REFUSED);
      const anonymous = await fetchIn(app, `${bucket('open')}/object`, { credentials: 'omit' });
      assert.equal(anonymous.text, 'body of /object');
    });

    test('a 404 of the upstream is readable by script', async () => {
      const seen = await fetchIn(app, `${bucket('named')}/missing`);
      assert.deepEqual([seen.status, seen.text], [404, 'body of /missing']);
    });

    test('a 502 of the proxy is readable by script, with the error document of S3', async () => {
      const seen = await fetchIn(app, `${bucket('gone')}/object`);
      assert.equal(seen.status, 502);
      assert.match(seen.text, /<Error><Code>\w+<\/Code>/);
      assert.deepEqual(await fetchIn(stranger, `${bucket('gone')}/object`), REFUSED);
    });

    test('a redirect within the bucket is followed', async () => {
      const seen = await fetchIn(app, `${bucket('named')}/moved`);
      assert.equal(seen.text, 'body of /object');
    });

    // What deploy/troubleshooting/README.md says about redirects.
    test('a redirect from one foreign origin to another makes the origin null', async () => {
      const away = (route) => `${bucket('named')}/away?${encodeURIComponent(`${bucket(route)}/object`)}`;
      assert.deepEqual(await fetchIn(app, away('readonly')), REFUSED, 'it allows the origin of the page but not null');
      assert.equal((await fetchIn(app, away('sandboxed'))).text, 'body of /object');
    });

    test('a redirect by the page\'s own server keeps the origin', async () => {
      const own = new URL(`/go?${encodeURIComponent(`${bucket('readonly')}/object`)}`, pages.origin('app'));
      assert.equal((await fetchIn(app, own.href)).text, 'body of /object');
    });

    test('a sandboxed frame has the origin null, which a rule with null or * allows', async () => {
      await app.evaluate(
        () =>
          new Promise((resolve) => {
            const frame = document.createElement('iframe');
            frame.sandbox = 'allow-scripts';
            frame.srcdoc = '<title>sandboxed</title>';
            frame.onload = resolve;
            document.body.append(frame);
          }),
      );
      const [frame] = app.frames().filter((each) => each !== app.mainFrame());
      assert.equal(await frame.evaluate(() => globalThis.origin), 'null');
      assert.equal((await fetchIn(frame, `${bucket('sandboxed')}/object`)).status, 200);
      assert.equal((await fetchIn(frame, `${bucket('open')}/object`)).status, 200);
      assert.deepEqual(await fetchIn(frame, `${bucket('named')}/object`), REFUSED);
      assert.deepEqual(await fetchIn(app, `${bucket('sandboxed')}/object`), REFUSED);
    });

    test('a response cached without Origin is not served to a script that needs one with it', async () => {
      const url = `${bucket('named')}/cached`;
      // Like an <img>: no Origin, so the response has no CORS fields except Vary.
      await app.evaluate((url) => fetch(url, { mode: 'no-cors' }).then((response) => response.type), url);
      const seen = await fetchIn(app, url);
      assert.equal(seen.text, 'body of /cached');
      assert.deepEqual(arrived, ['GET /cached', 'GET /cached']);
      // Control: the response is cacheable. WebKitGTK has no HTTP cache under automation.
      await fetchIn(app, url);
      assert.equal(arrived.length, name === 'WebKitGTK' ? 3 : 2);
    });

    test('an XMLHttpRequest reports the progress of its upload, and sees the response', async () => {
      const seen = await app.evaluate(
        (url) =>
          new Promise((resolve) => {
            const request = new XMLHttpRequest();
            let sent = 0;
            request.upload.onprogress = (event) => (sent = event.loaded);
            request.onloadend = () => resolve([request.status, sent, request.getResponseHeader('ETag')]);
            request.open('PUT', url);
            request.send(new Uint8Array(3_000_000));
          }),
        `${bucket('named')}/upload`,
      );
      assert.deepEqual(seen, [200, 3_000_000, '"tag"']);
    });

    test('events arrive as they are sent, and the upstream notices when the page stops listening', async () => {
      const gone = once(left, 'left');
      const seen = await app.evaluate(
        (url) =>
          new Promise((resolve) => {
            const source = new EventSource(url);
            const end = (text) => {
              source.close();
              resolve(text);
            };
            source.onmessage = (event) => end(event.data);
            source.onerror = () => end('an error');
          }),
        `${bucket('named')}/events`,
      );
      assert.equal(seen, 'first');
      await gone;
    });

    test('a WebSocket is tunnelled', async () => {
      const seen = await app.evaluate(
        (url) =>
          new Promise((resolve) => {
            const socket = new WebSocket(url);
            socket.onmessage = (event) => {
              socket.close();
              resolve(event.data);
            };
            socket.onerror = () => resolve('an error');
          }),
        bucket('named').replace('http:', 'ws:'),
      );
      assert.equal(seen, 'hello');
    });
  });
}
