// The AWS SDK for JavaScript in a page of Chromium, Firefox and WebKitGTK, through the proxy to a server that checks
// signatures.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { build } from 'esbuild';

import { BROWSERS } from './browsers.js';
import { SITE, startPages } from './pages.js';
import { startProxy } from './proxy.js';
import { CREDENTIALS, startSeaweedfs } from './seaweedfs.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const BUCKET = 'photos';
const MIB = 1024 * 1024;

const stops = [];
let proxy;
let pages;
let app;
let stranger;

before(async () => {
  const folder = await mkdtemp(join(tmpdir(), 's3cors-'));
  stops.push(() => rm(folder, { recursive: true }));

  const server = await startSeaweedfs(join(folder, 'seaweedfs'));
  stops.push(() => server.stop());
  const upstream = `http://127.0.0.1:${server.port}`;
  const endpoint = { endpoint: upstream, forcePathStyle: true, region: 'us-east-1' };
  const straight = new S3Client({ ...endpoint, credentials: CREDENTIALS });
  await straight.send(new CreateBucketCommand({ Bucket: BUCKET }));
  straight.destroy();

  const bundle = await build({
    entryPoints: [join(HERE, 'sdk.page.js')],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'sdk',
    platform: 'browser',
    logLevel: 'warning',
  });
  pages = await startPages(bundle.outputFiles[0].text);
  stops.push(() => pages.stop());

  const common = { origins: [pages.origin('app')], methods: ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'], headers: ['*'] };
  const bucket = (name, expose) => ({
    name,
    host: `${name}.${SITE}`,
    upstream,
    rules: [{ ...common, expose, maxAge: 600 }],
  });
  proxy = await startProxy(folder, [
    bucket('summed', ['ETag', 'x-amz-checksum-crc32']),
    bucket('tagged', ['ETag']),
    bucket('hiding', []),
  ]);
  stops.push(() => proxy.program.stop());
});

after(async () => {
  for (const stop of stops.reverse()) await stop();
});

/** Runs `work` in the page with a client for the bucket of `host`; returns its error if it fails. */
function inPage(page, host, work, argument, checksums = 'WHEN_SUPPORTED') {
  const endpoint = `http://${host}.${SITE}:${proxy.port}`;
  const source = `async (s3, bucket, argument) => (${work.toString()})(s3, bucket, argument)`;
  return page.evaluate(
    async ([source, endpoint, credentials, checksums, bucket, argument]) => {
      const s3 = globalThis.sdk.client(endpoint, credentials, checksums);
      try {
        return await globalThis.eval(source)(s3, bucket, argument);
      } catch (error) {
        return { failed: `${error.name}: ${error.message}` };
      }
    },
    [source, endpoint, CREDENTIALS, checksums, BUCKET, argument],
  );
}

for (const [name, start] of Object.entries(BROWSERS)) {
  describe(name, () => {
    let browser;

    before(async () => {
      browser = await start();
      app = await browser.visit(pages.origin('app'));
      stranger = await browser.visit(pages.origin('stranger'));
      for (const page of [app, stranger]) await page.addScriptTag({ url: '/script.js' });
    });

    after(async () => {
      await browser?.stop();
    });

    test('PutObject and GetObject, signed in the page', async () => {
      for (const key of ['plain.txt', 'with space+plus//ü.txt']) {
        const seen = await inPage(
          app,
          // Not `summed`: SeaweedFS sends the whole object's checksum with a part of it.
          'tagged',
          async (s3, bucket, key) => {
            const tag = await sdk.put(s3, bucket, key, new TextEncoder().encode(`content of ${key}`));
            const whole = new TextDecoder().decode(await sdk.get(s3, bucket, key));
            const part = new TextDecoder().decode(await sdk.get(s3, bucket, key, 'bytes=0-6'));
            return { tag, whole, part };
          },
          key,
        );
        assert.match(seen.tag ?? seen.failed, /^"[0-9a-f]{32}"$/);
        assert.deepEqual([seen.whole, seen.part], [`content of ${key}`, 'content']);
      }
    });

    for (const [host, checksums] of [
      // By default, the SDK sends a checksum with every part and must read all of them back to
      // finish.
      ['summed', 'WHEN_SUPPORTED'],
      ['tagged', 'WHEN_REQUIRED'],
    ]) {
      test(`twenty mebibytes in parts, up and down, with checksums ${checksums}`, async () => {
        const seen = await inPage(
          app,
          host,
          async (s3, bucket, size) => {
            const bytes = sdk.noise(size, 7);
            const tag = await sdk.uploadInParts(s3, bucket, 'big.bin', bytes);
            const back = await sdk.get(s3, bucket, 'big.bin');
            return { tag, up: await sdk.digest(bytes), down: await sdk.digest(back) };
          },
          20 * MIB,
          checksums,
        );
        assert.match(seen.tag ?? seen.failed, /-4"$/);
        assert.equal(seen.down, seen.up);
      });
    }

    test('without ETag exposed an upload in parts fails, and the SDK blames CORS', async () => {
      const seen = await inPage(
        app,
        'hiding',
        (s3, bucket, size) => sdk.uploadInParts(s3, bucket, 'hidden.bin', sdk.noise(size, 8)),
        6 * MIB,
      );
      assert.match(seen.failed ?? `it worked: ${seen}`, /ETag/);
    });

    test('a page of another origin gets nothing', async () => {
      const seen = await inPage(stranger, 'summed', (s3, bucket) => sdk.get(s3, bucket, 'plain.txt'));
      assert.match(seen.failed ?? 'it worked', /Failed to fetch|NetworkError|Load failed/);
    });
  });
}
