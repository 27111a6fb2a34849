// Chromium, Firefox and WebKitGTK behind one interface: each runs exchanges from a page and returns
// what the script got, what the console printed and, in Chromium, what the DevTools protocol
// reported.

import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import puppeteer from 'puppeteer-core';

import { FIREFOX, MINIBROWSER, startDisplay } from './browsers.js';
import { startBrowser, startPages } from './pages.js';
import { Program } from './programs.js';


/** Runs in the page: fetches each request, `width` at a time, and returns what the script may read. */
async function inPage(requests, width) {
  const results = [];
  let next = 0;
  // This same function also runs in a frame with a null origin.
  function inSandbox(request) {
    return new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.sandbox = 'allow-scripts';
      const work = `(${inPage})(${JSON.stringify([{ ...request, origin: undefined }])}, 1)`;
      frame.srcdoc = `<script>${work}.then(([result]) => parent.postMessage(result, '*'))<\/script>`;
      addEventListener('message', function listen({ source, data }) {
        if (source !== frame.contentWindow) return;
        removeEventListener('message', listen);
        frame.remove();
        resolve(data);
      });
      document.body.append(frame);
    });
  }
  async function worker() {
    while (next < requests.length) {
      const index = next++;
      const { url, method, headers, credentials, mode, origin } = requests[index];
      if (origin === 'null') {
        results[index] = await inSandbox(requests[index]);
        continue;
      }
      try {
        const body = ['GET', 'HEAD'].includes(method.toUpperCase()) ? undefined : new Uint8Array([97]);
        const response = await fetch(url, { method, headers, credentials, mode, body, cache: requests[index].cache ?? 'no-store' });
        const outcome = response.type === 'opaque' ? 'opaque' : 'readable';
        results[index] = { outcome, status: response.status, readable: Array.from(response.headers.keys()).sort() };
      } catch (error) {
        results[index] = { outcome: 'blocked', error: String(error) };
      }
    }
  }
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

/** The number of the exchange of a URL. */
const numberOf = (url) => new URL(url).pathname.slice(1).split('.')[0];

/** Resolves when `done()` is true, which is checked at every `change` event, or after `milliseconds`. */
async function settled(events, done, milliseconds = 5000) {
  const signal = AbortSignal.timeout(milliseconds);
  while (!done()) {
    try {
      await once(events, 'change', { signal });
    } catch {
      return;
    }
  }
}

/** `flags` are added to those of every test; `scripts` are the responses of the page's own server. */
export async function startChromium({ flags = [], scripts } = {}) {
  const pages = await startPages('', scripts);
  const browser = await startBrowser(flags);
  const page = await browser.visit(pages.address);
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  const urls = new Map();
  const events = new EventEmitter();
  let failures = new Map();
  let sentences = new Map();
  // A redirect has the same identifier; the first URL identifies the exchange.
  session.on('Network.requestWillBeSent', ({ requestId, request, initiator }) => {
    // A failed preflight is reported separately, before the request that it is for; only the latter has the reason.
    if (initiator.type !== 'preflight' && !urls.has(requestId)) urls.set(requestId, request.url);
  });
  session.on('Network.loadingFailed', ({ requestId, corsErrorStatus }) => {
    const url = urls.get(requestId);
    if (url) failures.set(numberOf(url), corsErrorStatus);
    events.emit('change');
  });
  page.on('console', (message) => {
    const at = /Access to fetch at '([^']*)' (?:\(redirected from '([^']*)'\))?/.exec(message.text());
    if (at) sentences.set(numberOf(at[2] ?? at[1]), message.text());
    events.emit('change');
  });
  return {
    name: 'chromium',
    origin: pages.address,
    async run(requests, width = 6) {
      failures = new Map();
      sentences = new Map();
      const results = await page.evaluate(`(${inPage})(${JSON.stringify(requests)}, ${width})`);
      const blocked = requests.map(({ url }) => numberOf(url)).filter((_, index) => results[index].outcome === 'blocked' && requests[index].mode === 'cors');
      await settled(events, () => blocked.every((key) => failures.has(key) && (!failures.get(key) || sentences.has(key))));
      return requests.map(({ url }, index) => {
        const key = numberOf(url);
        return { ...results[index], cors: failures.get(key), lines: sentences.has(key) ? [sentences.get(key)] : [] };
      });
    },
    async stop() {
      await browser.stop();
      await pages.stop();
    },
  };
}

export async function startFirefox({ scripts } = {}) {
  const pages = await startPages('', scripts);
  const profile = await mkdtemp(join(tmpdir(), 's3cors-firefox-'));
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: FIREFOX, headless: true, userDataDir: profile });
  const page = await browser.newPage();
  const events = new EventEmitter();
  let sentences = new Map();
  const note = (text) => {
    const at = /remote resource at ‘?(http:\/\/[^ ’]*?)[’.]* /.exec(text);
    if (at) sentences.set(numberOf(at[1]), [...(sentences.get(numberOf(at[1])) ?? []), text]);
    events.emit('change');
  };
  page.on('console', (message) => note(message.text()));
  page.on('pageerror', (error) => note(error.message));
  return {
    name: 'firefox',
    origin: pages.address,
    async run(requests, width = 6) {
      // A new page each time, because a page's log only grows.
      await page.goto(pages.address);
      sentences = new Map();
      const results = await page.evaluate(`(${inPage})(${JSON.stringify(requests)}, ${width})`);
      const blocked = requests.map(({ url }) => numberOf(url)).filter((_, index) => results[index].outcome === 'blocked' && requests[index].mode === 'cors');
      await settled(events, () => blocked.every((key) => sentences.has(key)));
      return requests.map(({ url }, index) => ({ ...results[index], lines: sentences.get(numberOf(url)) ?? [] }));
    },
    async stop() {
      await browser.close();
      await pages.stop();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** WebKitGTK's own small browser on a virtual display; its page gets work from this process and reports back. */
export async function startWebkit({ scripts } = {}) {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-webkit-'));
  // A separate profile: an ephemeral one, as under automation, prints nothing.
  const display = await startDisplay(folder);
  const work = new EventEmitter();
  const server = createServer(async (request, response) => {
    if (scripts?.answer(request, response)) return;
    if (request.url === '/work') {
      work.emit('asked', response);
      return;
    }
    if (request.url === '/results') {
      let text = '';
      for await (const chunk of request) text += chunk;
      response.end();
      work.emit('results', JSON.parse(text));
      return;
    }
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><title>A page</title><script>${workLoop(inPage)}</script>`);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${server.address().port}`;
  let asked = once(work, 'asked');
  const browser = new Program('MiniBrowser', MINIBROWSER, ['--enable-write-console-messages-to-stdout=true', `${origin}/`], { env: display.env });
  return {
    name: 'webkit',
    origin,
    async run(requests) {
      const start = browser.output.length;
      const [response] = await asked;
      asked = once(work, 'asked');
      const finished = once(work, 'results');
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify(requests));
      const [results] = await finished;
      const last = requests.at(-1).url.replaceAll('.', '\\.');
      await browser.said(new RegExp(`@@ ${last}\\n`));
      const sentences = new Map();
      let seen = [];
      for (const line of browser.output.slice(start).split('\n')) {
        const mark = /@@ (\S+)/.exec(line);
        if (mark) {
          sentences.set(mark[1], seen);
          seen = [];
        } else {
          const printed = /CONSOLE (?:SECURITY|JS|NETWORK) ERROR (.*)/.exec(line);
          if (printed) seen.push(printed[1]);
        }
      }
      return requests.map(({ url }, index) => ({ ...results[index], lines: sentences.get(url) ?? [] }));
    },
    async stop() {
      await browser.stop();
      await display.stop();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** The page's own script: one request at a time, because the console does not say which request a message is about. */
const workLoop = (run) => `
  const run = ${run};
  (async () => {
    for (;;) {
      const requests = await (await fetch('/work')).json();
      const results = [];
      for (const request of requests) {
        results.push(...(await run([request], 1)));
        console.log('@@ ' + request.url);
      }
      await fetch('/results', { method: 'POST', body: JSON.stringify(results) });
    }
  })();`;
