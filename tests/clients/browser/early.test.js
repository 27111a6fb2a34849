// A script uploads 50 MiB, and the upstream answers 403 before it has read them: Chromium and Firefox
// show the script the status and S3's error document, over HTTP/1.1 and HTTP/2 with TLS.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import puppeteer from 'puppeteer-core';

import { FIREFOX } from './browsers.js';
import { SITE, startBrowser, startPages } from './pages.js';
import { startProxy } from './proxy.js';

const SIZE = 50 * 1024 * 1024;
const TIMES = 3;
const ERROR = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';

const stops = [];
let proxy;
let pages;

before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-'));
  stops.push(() => rm(folder, { recursive: true }));
  const certificate = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const names = ['-subj', '/CN=early', '-addext', `subjectAltName=DNS:*.${SITE}`, '-days', '2'];
  const files = ['-keyout', join(folder, 'site.pem'), '-out', join(folder, 'site.crt')];
  execFileSync('openssl', [...certificate, ...names, ...files], { stdio: 'ignore' });

  const upstream = await startUpstream();
  pages = await startPages();
  stops.push(() => pages.stop());
  const rules = [{ origins: [pages.origin('app')], methods: ['PUT'], headers: ['*'] }];
  const routes = [{ name: 'early', host: `early.${SITE}`, upstream, rules }];
  proxy = await startProxy(folder, routes, 'tls = [{ certificate = "site.crt", key = "site.pem" }]');
  stops.push(() => proxy.program.stop());
});

after(async () => {
  for (const stop of stops.reverse()) await stop();
});

/** An upstream that answers as soon as it has a request's head, then reads and discards the rest. */
async function startUpstream() {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      const head = `HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: ${ERROR.length}`;
      socket.write(`${head}\r\n\r\n${ERROR}`);
      socket.resume();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  stops.push(async () => {
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** The result of an upload, as a script sees it. */
function upload([url, size]) {
  return fetch(url, { method: 'PUT', body: new Uint8Array(size) }).then(
    async (response) => ({
      status: response.status,
      text: await response.text(),
    }),
    (error) => ({ refused: String(error) }),
  );
}

async function check(page) {
  for (let time = 0; time < TIMES; time += 1) {
    const url = `https://early.${SITE}:${proxy.port}/key-${time}`;
    const seen = await page.evaluate(upload, [url, SIZE]);
    assert.deepEqual(seen, { status: 403, text: ERROR });
  }
}

for (const [protocol, flags] of [
  ['HTTP/1.1', ['--disable-http2']],
  ['HTTP/2', []],
]) {
  test(`Chromium, ${protocol}`, async () => {
    const browser = await startBrowser(['--ignore-certificate-errors', ...flags]);
    try {
      const page = await browser.visit(pages.origin('app'));
      await check(page);
    } finally {
      await browser.stop();
    }
  });
}

for (const [protocol, enabled] of [
  ['HTTP/1.1', false],
  ['HTTP/2', true],
]) {
  const skip = existsSync(FIREFOX) ? false : 'Firefox is not installed';
  test(`Firefox, ${protocol}`, { skip }, async () => {
    const browser = await puppeteer.launch({
      browser: 'firefox',
      executablePath: FIREFOX,
      headless: true,
      acceptInsecureCerts: true,
      extraPrefsFirefox: {
        'network.http.http2.enabled': enabled,
        'network.http.spdy.enabled.http2': enabled,
        'network.dns.localDomains': `early.${SITE},app.${SITE}`,
      },
    });
    try {
      const page = await browser.newPage();
      await page.goto(pages.origin('app'));
      await check(page);
    } finally {
      await browser.close();
    }
  });
}
