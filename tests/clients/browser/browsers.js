// Chromium, Firefox and WebKitGTK with pages that run functions: `visit(origin)`, then `evaluate(work, argument)`.

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import puppeteer from 'puppeteer-core';

import { startBrowser } from './pages.js';
import { freePorts, Program } from './programs.js';

export const FIREFOX = process.env.S3CORS_FIREFOX ?? '/usr/bin/firefox-esr';
export const XVFB = process.env.S3CORS_XVFB ?? '/usr/bin/Xvfb';
export const MINIBROWSER = process.env.S3CORS_MINIBROWSER ?? '/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser';
const WEBKIT_DRIVER = process.env.S3CORS_WEBKIT_DRIVER ?? '/usr/bin/WebKitWebDriver';

const SCRIPT_MILLISECONDS = 120_000;

/** Firefox with a fresh profile. */
async function startFirefoxBrowser() {
  const profile = await mkdtemp(join(tmpdir(), 's3cors-firefox-'));
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: FIREFOX, headless: true, userDataDir: profile });
  return {
    async visit(origin) {
      const page = await browser.newPage();
      await page.goto(origin);
      return page;
    },
    async stop() {
      await browser.close();
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** A virtual display; `env` are the variables of a WebKitGTK program on it, whose files are in `folder`. */
export async function startDisplay(folder) {
  const display = new Program('Xvfb', XVFB, ['-displayfd', '1', '-screen', '0', '1280x1024x24', '-nolisten', 'tcp']);
  const [, number] = await display.said(/^(\d+)\n/m);
  const env = { ...process.env, DISPLAY: `:${number}`, HOME: folder, XDG_CACHE_HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  env.WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS = '1';
  return { env, stop: () => display.stop() };
}

/** WebKitGTK's small browser. Each page is a separate browser, because a driver has only one session. */
async function startWebkitBrowser() {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-webkit-'));
  const display = await startDisplay(folder);
  const drivers = [];
  return {
    async visit(origin) {
      const [port] = await freePorts(1);
      const driver = new Program('WebKitWebDriver', WEBKIT_DRIVER, [`--port=${port}`], { env: display.env });
      const page = await WebDriverPage.start(`http://127.0.0.1:${port}`, driver);
      drivers.push({ driver, page });
      await page.command('POST', '/url', { url: origin });
      return page;
    },
    async stop() {
      for (const { driver, page } of drivers) {
        await page.command('DELETE', '');
        await driver.stop();
      }
      await display.stop();
      await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** A page driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/), limited to what these tests need. */
class WebDriverPage {
  constructor(session) {
    this.session = session;
  }

  static async start(address, driver) {
    const options = { binary: MINIBROWSER, args: ['--automation'] };
    const capabilities = { alwaysMatch: { browserName: 'MiniBrowser', 'webkitgtk:browserOptions': options } };
    const deadline = Date.now() + 30_000;
    for (;;) {
      try {
        const { sessionId } = await command(`${address}/session`, 'POST', { capabilities });
        const page = new WebDriverPage(`${address}/session/${sessionId}`);
        await page.command('POST', '/timeouts', { script: SCRIPT_MILLISECONDS });
        return page;
      } catch (error) {
        // Until the driver listens.
        if (error.cause?.code !== 'ECONNREFUSED' || Date.now() > deadline) throw new Error(driver.output, { cause: error });
        await once(AbortSignal.timeout(50), 'abort');
      }
    }
  }

  command(method, path, body) {
    return command(`${this.session}${path}`, method, body);
  }

  /** Runs a function in the page. */
  async evaluate(work, argument = null) {
    const script = `const done = arguments[arguments.length - 1];
      (async (argument) => (${work})(argument))(arguments[0]).then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.command('POST', '/execute/async', { script, args: [argument] });
    if (error) throw new Error(error);
    return value;
  }

  async visit(url) {
    await this.command('POST', '/url', { url });
  }

  async addScriptTag({ url }) {
    await this.evaluate(
      (url) =>
        new Promise((resolve, reject) => {
          const script = document.createElement('script');
          script.onload = () => resolve(true);
          script.onerror = () => reject(new Error(`cannot load ${url}`));
          script.src = url;
          document.head.append(script);
        }),
      url,
    );
  }

  mainFrame() {
    return this;
  }

  /** The page, and its first frame. */
  frames() {
    const evaluate = async (work, argument) => {
      await this.command('POST', '/frame', { id: 0 });
      try {
        return await this.evaluate(work, argument);
      } finally {
        await this.command('POST', '/frame/parent', {});
      }
    };
    return [this, { evaluate }];
  }
}

async function command(url, method, body) {
  const response = await fetch(url, { method, body: body && JSON.stringify(body), headers: body && { 'Content-Type': 'application/json' } });
  const { value } = await response.json();
  if (!response.ok) throw new Error(`${method} ${url}: ${JSON.stringify(value)}`);
  return value;
}

/** The engines by name. */
export const BROWSERS = { Chromium: startBrowser, Firefox: startFirefoxBrowser, WebKitGTK: startWebkitBrowser };
