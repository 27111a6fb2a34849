// The web sites that the browser visits, and the browser.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

// One site, so that cookies with SameSite=Lax are sent between its hosts. Chromium itself resolves
// every name under localhost.
export const SITE = 'cors.localhost';

export const CHROMIUM = process.env.S3CORS_CHROMIUM ?? '/usr/bin/chromium';
export const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Makes the protocol's events of a sandboxed frame arrive with those of its page.
  '--disable-features=IsolateSandboxedIframes',
  // Nothing outside this machine is requested, not even by the browser itself.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1, EXCLUDE 127.0.0.2',
];

/** A server on which every host is a web site; its pages may load `script`, and `scripts` are its own responses. */
export async function startPages(script = '', scripts = undefined) {
  const server = createServer((request, response) => {
    if (scripts?.answer(request, response)) return;
    if (request.url === '/script.js') {
      response.setHeader('Content-Type', 'text/javascript');
      response.end(script);
      return;
    }
    if (request.url.startsWith('/go?')) {
      response.statusCode = 307;
      response.setHeader('Location', decodeURIComponent(request.url.slice('/go?'.length)));
      response.end();
      return;
    }
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>A page</title>');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  return {
    origin: (name) => `http://${name}.${SITE}:${port}`,
    address: `http://127.0.0.1:${port}`,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A browser with a fresh profile; `flags` are added to the default ones. */
export async function startBrowser(flags = []) {
  const profile = await mkdtemp(join(tmpdir(), 's3cors-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    args: [...FLAGS, ...flags],
  });
  return {
    /** A page of that origin. */
    async visit(origin) {
      const page = await context.newPage();
      await page.goto(origin);
      return page;
    },
    async stop() {
      await context.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** The result of a fetch, as a script on the page or in one of its frames sees it. */
export function fetchIn(page, url, options = {}) {
  return page.evaluate(
    async ([url, options]) => {
      try {
        const response = await fetch(url, options);
        const fields = Object.fromEntries(response.headers);
        return { status: response.status, type: response.type, fields, text: await response.text() };
      } catch (error) {
        return { refused: error.name };
      }
    },
    [url, options],
  );
}

/** A blocked fetch: the script only learns that it failed. */
export const REFUSED = { refused: 'TypeError' };
