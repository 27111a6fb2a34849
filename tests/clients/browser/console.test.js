// The console at /cors in Chromium and Firefox, on a desktop and on a phone, light and dark: refused requests appear as
// they happen, explanations agree with the decisions, hostile strings stay text, the page finds its connection again, and
// it works without a mouse, enlarged, and for screen readers.

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

import { FIREFOX } from './browsers.js';
import { CHROMIUM, FLAGS } from './pages.js';
import { freePorts } from './programs.js';
import { startProxy } from './proxy.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const APP = 'https://app.example';
const PHOTOS = 'photos.example';

/**
 * A preflight, or an actual request if there is no `asks`. `reason` is the proxy's, `rule` the nearest rule,
 * `failed` what the row names, `change` what the suggestion says.
 */
const planted = [
  { reason: 'origin', title: 'Origin not allowed', origin: 'https://evil.example', asks: 'PUT', rule: 1, change: '<AllowedOrigin>https://evil.example</AllowedOrigin>' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'https://staging.app.example', asks: 'GET', headers: 'content-type', rule: 1, change: '<AllowedOrigin>https://staging.app.example</AllowedOrigin>' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'http://app.example', rule: 1, change: '<AllowedOrigin>http://app.example</AllowedOrigin>' },
  { reason: 'origin', title: 'Origin not allowed', origin: 'null', rule: 1, change: '<AllowedOrigin>null</AllowedOrigin>' },
  { reason: 'method', title: 'Method not allowed', origin: APP, asks: 'DELETE', rule: 1, failed: 'DELETE', change: '<AllowedMethod>DELETE</AllowedMethod>' },
  { reason: 'method', title: 'Method not allowed', origin: APP, method: 'DELETE', rule: 1, failed: 'DELETE', change: '<AllowedMethod>DELETE</AllowedMethod>' },
  { reason: 'header', title: 'Request header not allowed', origin: APP, asks: 'PUT', headers: 'content-type,x-amz-acl', rule: 1, failed: 'x-amz-acl', change: '<AllowedHeader>x-amz-acl</AllowedHeader>' },
  { reason: 'malformed', title: 'Malformed CORS request', origin: APP, asks: 'P UT', change: 'Browsers do not allow this method in scripts' },
  { reason: 'malformed', title: 'Malformed CORS request', origin: APP, asks: 'PUT', headers: 'x-<b>', rule: 1, failed: 'x-<b>', change: 'not a valid field name' },
  { reason: 'no_cors', title: 'No CORS policy applies', origin: APP, asks: 'PUT', host: 'buckets.example', target: '/dogs/1.jpg', change: '<CORSConfiguration' },
  { reason: 'no_cors', title: 'No CORS policy applies', origin: APP, host: 'buckets.example', target: '/dogs/1.jpg', change: '<CORSConfiguration' },
  { reason: 'MissingAllowOriginHeader', by: 'upstream', title: 'Upstream sends no CORS headers', origin: APP, host: 'plain.example', change: 'cors = "cors.xml"' },
  { reason: 'MissingAllowOriginHeader', by: 'no_route', title: 'No route for this host', origin: APP, host: 'unknown.example', change: 'host = ["unknown.example"]' },
];

const HOSTILE = [
  { target: '/<img src=x onerror=alert(1)>'.replaceAll(' ', '%20'), origin: 'https://<script>alert(1)</script>.example' },
  { target: '/%3Cb%3E%E2%80%AEgnp', origin: 'https://\u202e.example' },
  { target: '/a', origin: `https://${'a'.repeat(60_000)}.example` },
  { target: '/a', origin: APP, asks: 'PUT', headers: `x-<b>,${'h'.repeat(3000)}` },
  { target: '/a', origin: 'https://\u0080\u009b31m.example' },
  { target: '/a', origin: APP, host: '<b>evil</b>.example' },
  { target: '/a', origin: `https://${'<i>'.repeat(20_000)}.example` },
  { target: '/a', origin: APP, asks: `<b>${'M'.repeat(2000)}` },
  { target: `/${'%E2%80%AE<u>'.repeat(400)}`, origin: 'https://b\u00fccher.example' },
];

/** Widths and colour schemes. */
const SCREENS = [[1280, 'light'], [1280, 'dark'], [390, 'light'], [390, 'dark']];

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
    scheme: (page, value) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]),
  },
  firefox: {
    path: FIREFOX,
    start: (profile, scheme) => puppeteer.launch({
      browser: 'firefox',
      executablePath: FIREFOX,
      headless: true,
      userDataDir: profile,
      // 0: dark, 1: light. Puppeteer cannot set it later.
      extraPrefsFirefox: { 'layout.css.prefers-color-scheme.content-override': scheme === 'dark' ? 0 : 1 },
    }),
  },
};

/** Chromium changes its colour scheme as it runs; Firefox is started with one. */
const RUNS = [['chromium', SCREENS], ['firefox', SCREENS.filter(([, scheme]) => scheme === 'light')], ['firefox', SCREENS.filter(([, scheme]) => scheme === 'dark')]];

for (const [name, screens] of RUNS) {
  const engine = ENGINES[name];
  const skip = existsSync(engine.path) ? false : `${name} is not installed`;
  const schemes = [...new Set(screens.map(([, scheme]) => scheme))];
  describe(`the console in ${name}, ${schemes.join(' and ')}`, { skip }, () => {
    let browser;
    let page;
    let profile;
    const complaints = [];

    before(async () => {
      profile = await mkdtemp(join(tmpdir(), 's3cors-profile-'));
      browser = await engine.start(profile, schemes[0]);
      page = await open();
    });

    after(async () => {
      await browser?.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    });

    /** A page of the console that is connected; what its console and its CSP say is collected. */
    async function open(admin = proxy.admin) {
      const opened = await browser.newPage();
      opened.on('pageerror', (error) => complaints.push(String(error)));
      opened.on('console', (message) => {
        if (['error', 'warn'].includes(message.type())) complaints.push(message.text());
      });
      await opened.evaluateOnNewDocument(() => {
        addEventListener('securitypolicyviolation', ({ violatedDirective }) => console.error(`CSP: ${violatedDirective}`));
      });
      opened.on('dialog', (dialog) => {
        complaints.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
      });
      await opened.setViewport({ width: 1280, height: 900 });
      await opened.goto(`${admin}/cors`);
      await opened.waitForSelector('#connection.live');
      return opened;
    }

    async function screen([width, scheme]) {
      await page.setViewport({ width, height: 900 });
      await engine.scheme?.(page, scheme);
      assert.equal(await page.evaluate(() => (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')), scheme);
    }

    /** Shows a view and waits for it. */
    async function view(link) {
      await page.evaluate((hash) => { location.hash = hash; }, link);
      await page.waitForFunction((id) => !document.getElementById(id).hidden, {}, `view-${link.slice(1).split('?')[0]}`);
    }

    /** How far the page is wider than its window. */
    const tooWide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

    /** Text of visible elements that their boxes cut off, and no scroll bar leads to. */
    const cutTexts = () => page.evaluate(() => Array.from(document.querySelectorAll('main *'))
      .filter((element) => element.checkVisibility() && element.childElementCount === 0 && element.textContent.trim() && !element.matches('.unseen, option, textarea, input'))
      .filter((element) => ['hidden', 'clip'].includes(getComputedStyle(element).overflowX) && element.scrollWidth > element.clientWidth + 1)
      .map((element) => element.textContent.slice(0, 80)));

    async function assertAccessible(label) {
      const violations = await page.evaluate(`${AXE};
        axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))`);
      assert.deepEqual(violations, [], label);
      assert.ok((await tooWide()) <= 0, `${label} is too wide`);
    }

    // The page itself measures the times, so that the driver's delays do not count.
    for (const place of screens) {
      test(`each refused request is shown within a second and explained as it was decided, at ${place.join(', ')}`, async () => {
        await screen(place);
        for (const request of planted) {
          const label = JSON.stringify(request);
          await view('#events');
          const last = await page.evaluate(() => document.querySelector('#events-rows tr')?.dataset.key ?? '');
          const shown = page.evaluate((last) => new Promise((resolve) => {
            const check = () => {
              const row = document.querySelector('#events-rows tr');
              if (row && row.dataset.key !== last) resolve({ at: Date.now(), text: row.textContent, event: row.querySelector('a').event });
              else setTimeout(check, 10);
            };
            check();
          }), last);
          await send(request);
          const { at, text, event } = await shown;
          assert.ok(text.includes(request.title), `${label}: ${text}`);
          assert.ok(at - Date.parse(event.time) < 1000, `${label}: ${at - Date.parse(event.time)} ms`);
          // The decision that the proxy took.
          assert.deepEqual(event.refused, { by: request.by ?? 'policy', reason: request.reason }, label);
          if (request.asks) assert.deepEqual([event.cors.method, event.cors.headers ?? ''], [request.asks, request.headers ?? ''], label);

          // The program explains the same request as it was decided.
          const answer = await (await fetch(`${proxy.admin}${event.explain}`)).json();
          const decision = event.cors.request === 'preflight' ? answer.preflight : answer.actual;
          if (!request.by) {
            assert.deepEqual([decision.outcome, decision.reason], ['refused', request.reason], label);
            assert.equal(decision.nearest_rule ?? undefined, request.rule, label);
          }

          await page.evaluate(() => document.querySelector('#events-rows tr a').click());
          await page.waitForFunction(() => document.querySelector('#exact .verdict') && document.querySelector('#exact dl'));
          const exact = await page.evaluate(() => ({
            verdict: document.querySelector('#exact .verdict').className,
            title: document.querySelector('#exact .verdict strong').textContent,
            why: document.querySelector('#exact .verdict p').textContent,
            nearest: document.querySelector('#exact tr.nearest th')?.textContent.trim().split(/\s/)[0],
            facts: Object.fromEntries(Array.from(document.querySelectorAll('#exact dt'), (name) => [name.textContent, name.nextElementSibling.textContent])),
            text: document.querySelector('#exact').textContent,
            change: Array.from(document.querySelectorAll('#exact h3')).some((title) => title.textContent === 'The smallest change'),
          }));
          assert.deepEqual([exact.verdict, exact.title], ['verdict refused', request.title], label);
          if (event.why) assert.equal(exact.why.toLowerCase(), `${event.why}.`.replaceAll('`', '').toLowerCase(), label);
          assert.equal(exact.nearest, request.rule === undefined ? undefined : String(request.rule), label);
          assert.equal(exact.facts.Failed, request.failed, label);
          assert.equal(exact.facts.Origin, request.origin, label);
          assert.ok(exact.change && exact.text.includes(request.change), `${label}: ${exact.text}`);
          assert.ok(!/may differ|has changed since|cannot be evaluated/.test(exact.text), `${label}: ${exact.text}`);
        }
        await view('#now');
        const rows = await page.evaluate(() => Array.from(document.querySelectorAll('#refused-rows tr'), (row) => row.textContent));
        for (const { title } of planted) assert.ok(rows.some((row) => row.includes(title)), title);
      });
    }

    test('filters are part of the link', async () => {
      await view('#events?outcome=refused&reason=header');
      await page.waitForFunction(() => {
        const rows = [...document.querySelectorAll('#events-rows tr')];
        return rows.length && rows.every((row) => row.textContent.includes('Request header not allowed'));
      });
    });

    test('a paused list stays as it is, counts what is newer, and goes on', async () => {
      await view('#events');
      const first = () => page.evaluate(() => document.querySelector('#events-rows tr').dataset.key);
      await page.click('#pause');
      const frozen = await first();
      await send(planted[0]);
      await page.waitForFunction(() => document.getElementById('paused').textContent === 'Paused. 1 newer.');
      assert.equal(await first(), frozen);
      assert.equal(await page.evaluate(() => document.getElementById('pause').getAttribute('aria-pressed')), 'true');
      await page.click('#pause');
      await page.waitForFunction((key) => document.querySelector('#events-rows tr').dataset.key !== key, {}, frozen);
      assert.equal(await page.evaluate(() => document.getElementById('paused').textContent), '');
    });

    test('hostile strings are text, and nothing violates the CSP', async () => {
      for (const request of HOSTILE) await send(request);
      await view('#now');
      await page.waitForFunction(() => ['<script>alert(1)</script>', 'cher.example'].every((text) => document.querySelector('#refused-rows').textContent.includes(text)));
      // Each row's explanation too, and the form with them.
      const links = await page.evaluate(() => Array.from(document.querySelectorAll('#refused-rows a'), (link) => link.hash).filter((hash) => /%3C|%E2|%C2|%C3/i.test(hash)));
      assert.ok(links.length >= 5, `${links.length}`);
      const form = (link) => link.replace('#explain', '#try').replace(/&request=\w+/, '');
      for (const link of ['#events', '#now', ...links, form(links[0])]) {
        await view(link);
        if (link.startsWith('#explain')) await page.waitForSelector('#exact dl');
        const found = await page.evaluate(() => ({
          markup: document.querySelectorAll('main img, main script, main b, main i, main u').length,
          unseen: /[\u0000-\u0008\u000e-\u001f\u0080-\u009f\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent),
          wide: document.documentElement.scrollWidth > innerWidth,
        }));
        assert.deepEqual(found, { markup: 0, unseen: false, wide: false }, link);
      }
      // A host that is not a host has no URL to explain; the page says so.
      assert.deepEqual(complaints.filter((text) => !text.includes('status of 400')), []);
    });

    test('an origin beyond ASCII is one row, before and after the next snapshot', async () => {
      await view('#now');
      const count = () => page.evaluate(() => Array.from(document.querySelectorAll('#refused-rows th'), (cell) => cell.textContent).filter((text) => text.includes('cher.example')).length);
      await send(HOSTILE.at(-1));
      await page.waitForFunction(() => document.querySelector('#refused-rows').textContent.includes('cher.example'));
      assert.equal(await count(), 1);
      const snapshots = await page.evaluate(() => new Promise((resolve) => {
        const source = new EventSource('/cors/live');
        let seen = 0;
        source.addEventListener('snapshot', () => { if (++seen === 2) { source.close(); resolve(seen); } });
      }));
      assert.equal(snapshots, 2);
      assert.equal(await count(), 1);
    });

    test('an origin that is too long to be kept is not explained as another one', async () => {
      await view('#events');
      await send(HOSTILE[2]);
      await page.waitForFunction(() => document.querySelector('#events-rows tr').textContent.includes('aaaaaaaa'));
      await page.evaluate(() => document.querySelector('#events-rows tr a').click());
      await page.waitForFunction(() => document.querySelector('#exact .notice')?.textContent.includes('60,016 bytes'));
      assert.equal(await page.evaluate(() => document.querySelector('#exact .verdict strong').textContent), 'Malformed CORS request');
    });

    test('axe finds nothing in any view, and nothing is too wide', async () => {
      for (const place of screens) {
        await screen(place);
        for (const link of ['#now', '#events', '#policies', '#upstreams', `#try?url=http://${PHOTOS}/a&origin=${APP}&method=DELETE`]) {
          await view(link);
          await assertAccessible(`${link} at ${place}`);
        }
        await view('#now');
        await page.evaluate(() => document.querySelector('#refused-rows a').click());
        await page.waitForSelector('#exact h3');
        await assertAccessible(`an explanation at ${place}`);
      }
      await page.setViewport({ width: 1280, height: 900 });
    });

    // 200 % of a window of 1280 pixels has 640 CSS pixels of width.
    test('at 200 % nothing is cut', async () => {
      await page.setViewport({ width: 640, height: 450, deviceScaleFactor: name === 'chromium' ? 2 : 1 });
      const explain = await page.evaluate(() => document.querySelector('#refused-rows a').hash);
      for (const link of ['#now', '#events', '#policies', '#upstreams', `#try?url=http://${PHOTOS}/a&origin=${APP}&method=DELETE`, explain]) {
        await view(link);
        if (link === explain) await page.waitForSelector('#exact h3');
        assert.ok((await tooWide()) <= 0, `${link} is too wide`);
        assert.deepEqual(await cutTexts(), [], link);
      }
      await page.setViewport({ width: 1280, height: 900 });
    });

    test('every action is reached by keyboard', async () => {
      await page.goto('about:blank');
      await page.goto(`${proxy.admin}/cors`);
      await page.waitForSelector('#refused-rows a');
      const walk = async (until, most = 60) => {
        const reached = new Set();
        for (let presses = 0; presses < most; presses += 1) {
          await page.keyboard.press('Tab');
          const place = await page.evaluate(() => {
            const element = document.activeElement;
            return { hash: element.hash ?? '', id: element.id, name: element.name ?? '', outline: getComputedStyle(element).outlineStyle, html: element.outerHTML.slice(0, 100) };
          });
          reached.add(place.id ? `#${place.id}` : place.name || place.hash.split('?')[0]);
          if (until(place)) {
            assert.notEqual(place.outline, 'none', JSON.stringify(place));
            return reached;
          }
        }
        return reached;
      };
      const now = await walk(({ hash }) => hash.startsWith('#explain'));
      for (const link of ['#main', '#now', '#events', '#policies', '#upstreams', '#try', '#sort', '#explain']) assert.ok(now.has(link), link);
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => document.activeElement.id === 'title-explain');
      await page.waitForSelector('#exact .copy');
      // No further: after its last element, Firefox goes to its own toolbar.
      await walk(({ html }) => html.includes('class="copy"'), 10);
      assert.equal(await page.evaluate(() => document.activeElement.className), 'copy');

      await view('#events');
      await page.evaluate(() => document.getElementById('title-events').focus());
      const events = await walk(({ name }) => name === 'origin');
      for (const place of ['#pause', 'outcome', 'route', 'reason', 'bucket', 'origin']) assert.ok(events.has(place), place);
      await page.evaluate(() => document.getElementById('pause').focus());
      await page.keyboard.press(' ');
      await page.waitForFunction(() => document.getElementById('pause').getAttribute('aria-pressed') === 'true');
      await page.keyboard.press(' ');

      await view(`#try?url=http://${PHOTOS}/a&origin=${APP}&method=DELETE`);
      await page.evaluate(() => document.getElementById('url').focus());
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => document.querySelector('#answer .verdict.refused'));
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

    test('a ninth viewer is told why it sees nothing', async () => {
      const { admin, program } = await startProxy(await mkdtemp(join(folder, 'ninth-')), [{ name: 'plain', host: 'plain.example', upstream: 'http://127.0.0.1:1' }]);
      const viewers = [];
      try {
        for (let viewer = 0; viewer < 8; viewer += 1) {
          const live = await fetch(`${admin}/cors/live`);
          assert.equal(live.status, 200);
          viewers.push(live);
        }
        const ninth = await browser.newPage();
        await ninth.goto(`${admin}/cors`);
        await ninth.waitForFunction(() => !document.getElementById('stale').hidden && /8 pages/.test(document.getElementById('stale').textContent));
        // One leaves, and the page connects by itself.
        await viewers.pop().body.cancel();
        await ninth.waitForSelector('#connection.live');
        assert.equal(await ninth.evaluate(() => document.getElementById('stale').hidden), true);
        await ninth.close();
      } finally {
        for (const { body } of viewers) await body.cancel();
        await program.stop();
      }
    });

    test('after a restart of s3cors the page connects again, and the notice goes away', async () => {
      const own = await mkdtemp(join(folder, 'restarted-'));
      const [port] = await freePorts(1);
      const routes = [{ name: 'plain', host: 'plain.example', upstream: 'http://127.0.0.1:1' }];
      let started = await startProxy(own, routes, '', port);
      let restarted;
      try {
        restarted = await browser.newPage();
        await restarted.goto(`${started.admin}/cors`);
        await restarted.waitForSelector('#connection.live');
        await started.program.stop();
        await restarted.waitForSelector('#connection.lost');
        assert.match(await restarted.evaluate(() => document.getElementById('stale').textContent), /before the connection was lost/);
        started = await startProxy(own, routes, '', port);
        await restarted.waitForSelector('#connection.live');
        await restarted.waitForFunction(() => document.getElementById('stale').hidden);
      } finally {
        await restarted?.close();
        await started.program.stop();
      }
    });
  });
}
