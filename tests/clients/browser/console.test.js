// The console at /cors in Chromium and Firefox: refused requests appear as they happen, explanations agree with the
// decisions, hostile strings stay text, and the page works without a mouse and for screen readers.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import puppeteer from 'puppeteer-core';

import { CHROMIUM, FLAGS } from './pages.js';
import { startProxy } from './proxy.js';

const FIREFOX = process.env.S3CORS_FIREFOX ?? '/usr/bin/firefox-esr';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const APP = 'https://app.example';
const PHOTOS = 'photos.example';

/** A preflight, or an actual request if there is no `asks`. */
const planted = [
  { reason: 'origin', title: 'Origin not allowed', origin: 'https://evil.example', asks: 'PUT' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'https://staging.app.example', asks: 'GET', headers: 'content-type' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'http://app.example' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'null' },
  { reason: 'method', title: 'Method not allowed', origin: APP, asks: 'DELETE' },
  { reason: 'method', title: 'Method not allowed', origin: APP, method: 'DELETE' },
  { reason: 'header', title: 'Request header not allowed', origin: APP, asks: 'PUT', headers: 'content-type,x-amz-acl', failed: 'x-amz-acl' },
  { reason: 'malformed', title: 'Malformed CORS request', origin: APP, asks: 'P UT' },
  { reason: 'no_cors', title: 'No CORS policy applies', origin: APP, asks: 'PUT', host: 'buckets.example', target: '/dogs/1.jpg' },
  { reason: 'no_cors', title: 'No CORS policy applies', origin: APP, host: 'buckets.example', target: '/dogs/1.jpg' },
  { reason: 'upstream', title: 'Upstream sends no CORS headers', origin: APP, host: 'plain.example' },
  { reason: 'no_route', title: 'No route for this host', origin: APP, host: 'unknown.example' },
];

const HOSTILE = [
  { target: '/<img src=x onerror=alert(1)>'.replaceAll(' ', '%20'), origin: 'https://<script>alert(1)</script>.example' },
  { target: '/%3Cb%3E%E2%80%AEgnp', origin: 'https://\u202e.example' },
  { target: '/a', origin: `https://${'a'.repeat(60_000)}.example` },
  { target: '/a', origin: APP, asks: 'PUT', headers: `x-<b>,${'h'.repeat(3000)}` },
  { target: '/a', origin: 'https://\u0080\u009b31m.example' },
  { target: '/a', origin: APP, host: '<b>evil</b>.example' },
];

const stops = [];
let folder;
let proxy;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 's3cors-console-'));
  stops.push(() => rm(folder, { recursive: true, force: true }));
  const server = createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  stops.push(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  const upstream = `http://127.0.0.1:${server.address().port}`;
  const rules = [{ origins: [APP], methods: ['GET', 'PUT'], headers: ['content-type'] }];
  proxy = await startProxy(folder, [
    { name: 'photos', host: PHOTOS, upstream, rules },
    { name: 'plain', host: 'plain.example', upstream },
    { name: 'buckets', host: 'buckets.example', upstream, buckets: 'no-buckets' },
  ]);
  stops.push(() => proxy.program.stop());
});

after(async () => {
  for (const stop of stops.reverse()) await stop();
});

/** Sends a request byte for byte, and waits for the response. */
async function send({ host = PHOTOS, target = '/a.jpg', method = 'GET', origin, asks, headers }) {
  const socket = connect(proxy.port, '127.0.0.1');
  const lines = [`${asks ? 'OPTIONS' : method} ${target} HTTP/1.1`, `Host: ${host}`, `Origin: ${origin}`, 'Connection: close'];
  if (asks) lines.push(`Access-Control-Request-Method: ${asks}`);
  if (headers) lines.push(`Access-Control-Request-Headers: ${headers}`);
  socket.end(`${lines.join('\r\n')}\r\n\r\n`);
  socket.resume();
  await once(socket, 'close');
}

const ENGINES = {
  chromium: {
    path: CHROMIUM,
    start: (profile) => puppeteer.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS, userDataDir: profile }),
  },
  firefox: {
    path: FIREFOX,
    start: (profile) => puppeteer.launch({ browser: 'firefox', executablePath: FIREFOX, headless: true, userDataDir: profile }),
  },
};

for (const [name, engine] of Object.entries(ENGINES)) {
  const skip = existsSync(engine.path) ? false : `${name} is not installed`;
  describe(`the console in ${name}`, { skip }, () => {
    let browser;
    let page;
    let profile;
    const complaints = [];

    before(async () => {
      profile = await mkdtemp(join(tmpdir(), 's3cors-profile-'));
      browser = await engine.start(profile);
      page = await browser.newPage();
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('console', (message) => {
        // A request to explain that browsers cannot send is answered with 400, and the page says
        // so.
        if (['error', 'warn'].includes(message.type()) && !message.text().includes('status of 400')) complaints.push(message.text());
      });
      await page.evaluateOnNewDocument(() => {
        document.addEventListener('securitypolicyviolation', ({ violatedDirective }) => console.error(`CSP: ${violatedDirective}`));
      });
      page.on('dialog', (dialog) => {
        complaints.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
      });
      await page.setViewport({ width: 1280, height: 900 });
      await page.goto(`${proxy.admin}/cors`);
      await page.waitForSelector('#connection.live');
    });

    after(async () => {
      await browser?.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    });

    /** Shows a view and waits for it. */
    async function view(link) {
      await page.evaluate((hash) => { location.hash = hash; }, link);
      await page.waitForFunction((id) => !document.getElementById(id).hidden, {}, `view-${link.slice(1).split('?')[0]}`);
    }

    async function assertAccessible(label) {
      const violations = await page.evaluate(`${AXE};
        axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))`);
      assert.deepEqual(violations, [], label);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${label} is ${wide} pixels too wide`);
    }

    // The page itself measures the times, so that the driver's delays do not count.
    test('each refused request is shown within a second, with its reason and its explanation', async () => {
      for (const request of planted) {
        await view('#events');
        const count = await page.evaluate(() => document.querySelectorAll('#events-rows tr').length);
        const shown = page.evaluate((count) => new Promise((resolve) => {
          const check = () => {
            const rows = document.querySelectorAll('#events-rows tr');
            if (rows.length > count) resolve({ at: Date.now(), text: rows[0].textContent, happened: rows[0].querySelector('a').event.time });
            else setTimeout(check, 10);
          };
          check();
        }), count);
        await send(request);
        const { at, text, happened } = await shown;
        const label = JSON.stringify(request);
        assert.ok(text.includes(request.title), `${label}: ${text}`);
        assert.ok(at - Date.parse(happened) < 1000, `${label}: ${at - Date.parse(happened)} ms`);

        await page.evaluate(() => document.querySelector('#events-rows tr a').click());
        await page.waitForFunction(() => document.querySelector('#exact .verdict') && document.querySelector('#exact dl'));
        const exact = await page.evaluate(() => document.querySelector('#exact').textContent);
        assert.ok(exact.includes(request.title), `${label}: ${exact}`);
        assert.ok(!exact.includes('may differ') && !exact.includes('has changed since'), `${label}: ${exact}`);
        if (request.failed) assert.ok(exact.includes(`<AllowedHeader>${request.failed}</AllowedHeader>`), exact);
      }
      await view('#now');
      const rows = await page.evaluate(() => Array.from(document.querySelectorAll('#refused-rows tr'), (row) => row.textContent));
      for (const { title } of planted) assert.ok(rows.some((row) => row.includes(title)), title);
    });

    test('filters are part of the link', async () => {
      await view('#events?outcome=refused&reason=header');
      await page.waitForFunction(() => {
        const rows = [...document.querySelectorAll('#events-rows tr')];
        return rows.length && rows.every((row) => row.textContent.includes('Request header not allowed'));
      });
    });

    test('hostile strings are text, and nothing violates the CSP', async () => {
      for (const request of HOSTILE) await send(request);
      await view('#now');
      await page.waitForFunction(() => document.querySelector('#refused-rows').textContent.includes('<script>alert(1)</script>'));
      for (const link of ['#events', '#now']) {
        await view(link);
        const found = await page.evaluate(() => ({
          markup: document.querySelectorAll('main img, main script, main b').length,
          unseen: /[\u0000-\u0008\u000e-\u001f\u0080-\u009f\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent),
          wide: document.documentElement.scrollWidth - innerWidth,
        }));
        assert.deepEqual({ ...found, wide: found.wide > 0 }, { markup: 0, unseen: false, wide: false }, link);
      }
      assert.deepEqual(complaints, []);
    });

    test('axe finds nothing in any view, on a desktop and on a phone, light and dark', async () => {
      for (const [width, scheme] of [[1280, 'light'], [390, 'dark']]) {
        await page.setViewport({ width, height: 900 });
        if (name === 'chromium') await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        for (const link of ['#now', '#events', '#policies', '#upstreams', `#try?url=http://${PHOTOS}/a&origin=${APP}&method=DELETE`]) {
          await view(link);
          await assertAccessible(`${link} at ${width}`);
        }
        await view('#now');
        await page.evaluate(() => document.querySelector('#refused-rows a').click());
        await page.waitForSelector('#exact h3');
        await assertAccessible(`an explanation at ${width}`);
      }
      await page.setViewport({ width: 1280, height: 900 });
    });

    test('every view and an explanation are reached by keyboard', async () => {
      await page.goto('about:blank');
      await page.goto(`${proxy.admin}/cors`);
      await page.waitForSelector('#refused-rows a');
      const reached = new Set();
      for (let presses = 0; presses < 60; presses += 1) {
        await page.keyboard.press('Tab');
        const place = await page.evaluate(() => {
          const element = document.activeElement;
          return { hash: element.hash ?? '', id: element.id, outline: getComputedStyle(element).outlineStyle };
        });
        reached.add(place.id ? `#${place.id}` : place.hash.split('?')[0]);
        if (place.hash.startsWith('#explain')) {
          assert.notEqual(place.outline, 'none');
          break;
        }
      }
      for (const link of ['#main', '#now', '#events', '#policies', '#upstreams', '#try', '#sort', '#explain']) assert.ok(reached.has(link), link);
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => document.activeElement.id === 'title-explain');
    });

    test('a fixed request leaves the list by itself, and an invalid file is shown until it is corrected', async () => {
      const policy = join(folder, 'photos.xml');
      const original = readFileSync(policy, 'utf8');
      try {
        await view('#now');
        await writeFile(policy, '<CORSConfiguration>');
        await page.waitForFunction(() => !document.getElementById('problems').hidden);
        await writeFile(policy, original.replace('</CORSRule>', '<AllowedMethod>DELETE</AllowedMethod></CORSRule>'));
        await page.waitForFunction(() => document.getElementById('problems').hidden && !document.getElementById('fixed').hidden);
      } finally {
        await writeFile(policy, original);
      }
    });
  });
}
