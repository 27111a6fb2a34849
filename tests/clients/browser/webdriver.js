// WebKitGTK's browser on a virtual display, driven over WebDriver (https://www.w3.org/TR/webdriver2/).

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { freePorts, Program } from './programs.js';

const XVFB = process.env.S3CORS_XVFB ?? '/usr/bin/Xvfb';
const DRIVER = process.env.S3CORS_WEBKIT_DRIVER ?? '/usr/bin/WebKitWebDriver';
export const MINIBROWSER = process.env.S3CORS_MINIBROWSER ?? '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser';

/** The key of an element's reference. */
const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

/** WebDriver's code points for keys. */
const KEYS = { Tab: '\uE004', Enter: '\uE007' };

/** A page with the puppeteer methods that the demo's tests use. */
export async function startWebkitPage() {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-webkit-'));
  const display = new Program('Xvfb', XVFB, ['-displayfd', '1', '-screen', '0', '1400x1000x24', '-nolisten', 'tcp']);
  const [, number] = await display.said(/^(\d+)\n/m);
  const [port] = await freePorts(1);
  const env = { ...process.env, DISPLAY: `:${number}`, HOME: folder, XDG_CACHE_HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  env.WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS = '1';
  const driver = new Program('WebKitWebDriver', DRIVER, [`--port=${port}`], { env });
  const base = `http://127.0.0.1:${port}`;

  async function send(method, path, body) {
    const response = await fetch(base + path, { method, body: body && JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  }

  // It prints nothing when it listens.
  for (const end = Date.now() + 30_000; ; ) {
    try {
      await send('GET', '/status');
      break;
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const options = { 'webkitgtk:browserOptions': { binary: MINIBROWSER, args: ['--automation'] } };
  const { sessionId } = await send('POST', '/session', { capabilities: { alwaysMatch: options } });
  const session = `/session/${sessionId}`;
  const run = (script, args = []) => send('POST', `${session}/execute/async`, {
    script: `const done = arguments[arguments.length - 1];
      Promise.resolve().then(() => (${script})(...arguments)).then((value) => done({ value }), (error) => done({ error: String(error) }));`,
    args,
  }).then(({ value, error }) => {
    if (error) throw new Error(error);
    return value;
  });
  const find = async (selector) => (await send('POST', `${session}/element`, { using: 'css selector', value: selector }))[ELEMENT];
  return {
    goto: (url) => send('POST', `${session}/url`, { url }),
    async resize(width) {
      // The window's frame is part of its size; the page's width is what matters.
      const frame = await run('() => outerWidth - innerWidth');
      await send('POST', `${session}/window/rect`, { width: width + frame, height: 900 });
    },
    evaluate: (script, ...args) => run(String(script), args),
    async click(selector) {
      await send('POST', `${session}/element/${await find(selector)}/click`, {});
    },
    async press(key) {
      const value = KEYS[key];
      const actions = [{ type: 'keyDown', value }, { type: 'keyUp', value }];
      await send('POST', `${session}/actions`, { actions: [{ type: 'key', id: 'keyboard', actions }] });
    },
    async choose(selector, path) {
      // The driver cannot choose a file for an input, so the page creates one.
      const content = (await readFile(path)).toString('base64');
      await run(String((selector, name, content) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(content), (byte) => byte.charCodeAt(0))], name));
        document.querySelector(selector).files = transfer.files;
      }), [selector, basename(path), content]);
    },
    async screenshot(path) {
      await writeFile(path, Buffer.from(await send('GET', `${session}/screenshot`), 'base64'));
    },
    async stop() {
      await send('DELETE', session).catch(() => {});
      await driver.stop();
      await display.stop();
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}
