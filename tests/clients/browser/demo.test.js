// The page of `s3cors demo` in Chromium, Firefox and WebKitGTK: both buttons, uploads, the link to the console; also
// under other names of the machine, by keyboard, for screen readers, on a phone, light and dark.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import puppeteer from 'puppeteer-core';

import { CHROMIUM, FLAGS } from './pages.js';
import { Program } from './programs.js';
import { BINARY } from './proxy.js';
import { MINIBROWSER, startWebkitPage } from './webdriver.js';

const FIREFOX = process.env.S3CORS_FIREFOX ?? '/usr/bin/firefox-esr';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const HELLO = 'Hello from behind the proxy.\n';
/** A folder for screenshots, if they are wanted. */
const SHOTS = process.env.S3CORS_SCREENSHOTS;

let folder;
let file;
/** Binary content, with a name that needs escapes. */
const content = Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7) % 256));

/** A demo on free ports of `ip`, and the address of its page. */
async function startDemo(ip = '127.0.0.1', proxy = `${ip}:0`) {
  const at = `${ip}:0`;
  const args = ['demo', '--log', 'off', '--page', at, '--store', at, '--listen', proxy, '--admin', at];
  const program = new Program('s3cors demo', BINARY, args);
  await program.said(/DELETE'\n/);
  const [first] = program.output.split('\n');
  return { program, url: first, store: /store +(http:\S+\d)/.exec(program.output)[1] };
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 's3cors-demo-'));
  file = join(folder, 'a photo & ü.bin');
  await writeFile(file, content);
});

after(() => rm(folder, { recursive: true, force: true }));

/** A puppeteer page with the methods that the tests use in all engines. */
async function puppets(options, messages) {
  const profile = await mkdtemp(join(tmpdir(), 's3cors-profile-'));
  const browser = await puppeteer.launch({ ...options, headless: true, userDataDir: profile });
  const page = await browser.newPage();
  page.on('console', (message) => messages.push(message.text()));
  page.on('pageerror', (error) => messages.push(error.message));
  return {
    page,
    goto: (url) => page.goto(url),
    resize: (width) => page.setViewport({ width, height: 900 }),
    /** Runs a function in the page, or the text of one. */
    evaluate: (script, ...args) => (typeof script === 'string' ? page.evaluate(`(${script})()`) : page.evaluate(script, ...args)),
    press: (key) => page.keyboard.press(key),
    click: (selector) => page.click(selector),
    choose: async (selector, path) => (await page.$(selector)).uploadFile(path),
    scheme: options.browser ? undefined : (value) => page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]),
    screenshot: (path) => page.screenshot({ path, fullPage: true }),
    async stop() {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

const ENGINES = {
  chromium: { path: CHROMIUM, start: (messages) => puppets({ executablePath: CHROMIUM, args: FLAGS }, messages) },
  firefox: { path: FIREFOX, start: (messages) => puppets({ browser: 'firefox', executablePath: FIREFOX }, messages) },
  webkit: { path: MINIBROWSER, start: startWebkitPage },
};

for (const [name, engine] of Object.entries(ENGINES)) {
  const skip = existsSync(engine.path) ? false : `${name} is not installed`;
  describe(`the demo's page in ${name}`, { skip }, () => {
    let demo;
    let window;
    const messages = [];

    before(async () => {
      demo = await startDemo();
      window = await engine.start(messages);
    });

    after(async () => {
      await window?.stop();
      await demo?.program.stop();
    });

    /** Opens the page, and waits until it shows its addresses. */
    async function open(url) {
      await window.goto(url);
      await window.evaluate(() => new Promise((resolve) => {
        window.violations = [];
        document.addEventListener('securitypolicyviolation', ({ violatedDirective }) => window.violations.push(violatedDirective));
        const look = () => (document.querySelector('.at-store').textContent ? resolve() : setTimeout(look, 10));
        look();
      }));
    }

    /** Presses a section's button and returns the result text. */
    async function press(section) {
      await window.evaluate((section) => document.querySelector(`#${section} .result`).replaceChildren(), section);
      await window.click(`#${section} button`);
      return window.evaluate((section) => new Promise((resolve) => {
        const look = () => {
          const result = document.querySelector(`#${section} .result`);
          const verdict = result.querySelector('.verdict');
          if (!verdict) setTimeout(look, 10);
          else {
            resolve({
              kind: verdict.className.replace('verdict ', ''),
              title: verdict.querySelector('strong').textContent,
              text: result.textContent,
              blocks: Array.from(result.querySelectorAll('pre'), (block) => block.textContent),
              own: Array.from(result.querySelectorAll('.badge'), (badge) => badge.parentElement.firstChild.textContent),
              violations: window.violations,
            });
          }
        };
        look();
      }), section);
    }

    async function assertAll(url) {
      await open(url);
      const origin = new URL(url).origin;

      const straight = await press('straight');
      assert.deepEqual([straight.kind, straight.title], ['refused', 'Blocked by the browser']);
      assert.match(straight.text, /TypeError: \S/);
      assert.deepEqual(straight.own, [{ chromium: 'Chrome, Edge', firefox: 'Firefox', webkit: 'Safari' }[name]]);
      const [chromium, firefox, webkit, ...rest] = straight.blocks;
      assert.deepEqual(rest, []);
      assert.match(chromium, new RegExp(`^Access to fetch at 'http://\\S+/photos/hello.txt' from origin '${origin}' has been blocked`));
      assert.match(firefox, /^Cross-Origin Request Blocked: .*‘Access-Control-Allow-Origin’ missing/);
      assert.match(webkit, new RegExp(`^Origin ${origin} is not allowed by Access-Control-Allow-Origin`));
      // The page shows what this browser printed. WebKit's driver hides its console;
      // `verdict.test.js` reads it.
      const shown = { chromium, firefox }[name];
      if (shown) assert.ok(messages.some((message) => message.includes(shown)), `${shown}\n${messages.join('\n')}`);

      const through = await press('through');
      assert.deepEqual([through.kind, through.title, through.blocks], ['allowed', 'Readable', [HELLO]]);
      assert.ok(through.text.includes(`Access-Control-Allow-Origin: ${origin} `), through.text);
      assert.match(through.text, /etag/);

      await window.evaluate(() => { document.getElementById('text').value = 'grüße\n'; document.getElementById('file').value = ''; });
      const text = await press('upload');
      assert.deepEqual([text.kind, text.blocks], ['allowed', ['grüße\n']], text.text);
      assert.equal(await (await fetch(`${demo.store}/uploads/note.txt`)).text(), 'grüße\n');

      await window.choose('#file', file);
      const chosen = await press('upload');
      assert.deepEqual([chosen.kind, chosen.title, chosen.blocks], ['allowed', 'Uploaded and read back', []], chosen.text);
      const stored = await fetch(`${demo.store}/uploads/${encodeURIComponent('a photo & ü.bin')}`);
      assert.deepEqual(Buffer.from(await stored.arrayBuffer()), content);
      for (const { violations } of [straight, through, text, chosen]) assert.deepEqual(violations, []);

      // It loads nothing from other origins.
      const { resources, addresses } = await window.evaluate(() => ({
        resources: performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin),
        addresses: ['.at-page', '.at-proxy', '.at-store'].map((selector) => document.querySelector(selector).textContent),
      }));
      assert.equal(new Set(addresses).size, 3, 'page, proxy and store have three origins');
      assert.equal(addresses[0], origin);
      for (const resource of resources) assert.ok(addresses.includes(resource), resource);
    }

    test('straight is blocked, through s3cors works, and uploads come back', () => assertAll(demo.url));

    test('the same with the name localhost', () => assertAll(demo.url.replace('127.0.0.1', 'localhost')));

    test('the same on all addresses of the machine, with a name that no flag lists', async () => {
      const first = demo;
      demo = await startDemo('0.0.0.0');
      try {
        await assertAll(demo.url);
        await assertAll(demo.url.replace('127.0.0.1', '127.0.0.2'));
      } finally {
        await demo.program.stop();
        demo = first;
      }
    });

    test('the link to the console leads there', async () => {
      await open(demo.url);
      await window.click('header a.console');
      let place;
      while (!place) {
        // While the page navigates, it cannot be queried.
        place = await window.evaluate(() => (document.querySelector('#connection.live') ? location.href : '')).catch(() => '');
      }
      assert.match(place, /^http:\/\/127\.0\.0\.1:\d+\/cors/);
    });

    test('a storage that is down is not reported as one without CORS', async () => {
      const gone = await startDemo();
      await open(gone.url);
      await gone.program.stop();
      for (const section of ['straight', 'through', 'upload']) {
        const { kind, title } = await press(section);
        assert.equal(kind, 'failed', section);
        assert.match(title, /cannot be reached$/);
      }
    });

    test('a proxy on a Unix socket is said to be out of reach', async () => {
      const unix = await startDemo('127.0.0.1', `unix:${join(folder, `${name}.sock`)}`);
      await open(unix.url);
      for (const section of ['through', 'upload']) {
        const { kind, title } = await press(section);
        assert.deepEqual([kind, title], ['failed', 'No browser reaches this proxy'], section);
      }
      assert.equal((await press('straight')).kind, 'refused');
      await unix.program.stop();
    });

    test('axe finds no problems and nothing is too wide, on a desktop and on a phone, light and dark', async () => {
      for (const width of [1280, 390]) {
        for (const scheme of window.scheme ? ['light', 'dark'] : ['light']) {
          await window.resize(width);
          await window.scheme?.(scheme);
          await open(demo.url);
          for (const pressed of [false, true]) {
            if (pressed) {
              for (const section of ['straight', 'through', 'upload']) await press(section);
              await window.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
            }
            const label = `${width} ${scheme} ${pressed ? 'after' : 'before'}`;
            if (SHOTS) await window.screenshot(join(SHOTS, `${name}-${label.replaceAll(' ', '-')}.png`));
            const violations = await window.evaluate(`async () => {
              ${AXE};
              const { violations } = await axe.run();
              return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]);
            }`);
            assert.deepEqual(violations, [], label);
            const wide = await window.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(wide <= 0, `${label} is ${wide} pixels too wide`);
          }
        }
      }
      await window.resize(1280);
    });

    test('everything can be reached and used by keyboard', async () => {
      await window.goto('about:blank');
      await open(demo.url);
      const wanted = ['Skip to content', 'Open the console', 'Straight to the storage', 'Through s3cors', 'text', 'file', 'Upload', 'The console'];
      const reached = [];
      while (reached.length < 20 && reached.at(-1) !== wanted.at(-1)) {
        await window.press('Tab');
        const { what, outline } = await window.evaluate(() => {
          const element = document.activeElement;
          return { what: element.id || element.textContent.trim(), outline: getComputedStyle(element).outlineStyle };
        });
        reached.push(what);
        assert.notEqual(outline, 'none', what);
        if (what === 'Through s3cors') {
          await window.press('Enter');
          await window.evaluate(() => new Promise((resolve) => {
            const look = () => (document.querySelector('#through .verdict.allowed') ? resolve() : setTimeout(look, 10));
            look();
          }));
        }
      }
      assert.deepEqual(reached.filter((what) => wanted.includes(what)), wanted);
    });
  });
}
