// `s3cors probe` of real servers: it agrees with Chromium, recognises the server, and finds its
// faults.
//
// S3CORS_MOTO is the path of moto's `moto_server`; without it, that server is skipped.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startChromium } from './engines.js';
import { freePorts, Program } from './programs.js';
import { BINARY, ROOT, startProxy } from './proxy.js';
import { CREDENTIALS, startSeaweedfs } from './seaweedfs.js';

import { CreateBucketCommand, PutBucketCorsCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';

const NGINX = process.env.S3CORS_NGINX ?? '/usr/sbin/nginx';
const CADDY = process.env.S3CORS_CADDY ?? join(ROOT, 'target/clients/venv/bin/caddy');
const MOTO = process.env.S3CORS_MOTO;

let engine;
let folder;
const programs = [];

before(async () => {
  engine = await startChromium();
  folder = await mkdtemp(join(tmpdir(), 's3cors-servers-'));
  await mkdir(join(folder, 'data/b'), { recursive: true });
  await writeFile(join(folder, 'data/b/k'), 'an object');
});

after(async () => {
  for (const program of programs.reverse()) await program.stop();
  await engine?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Starts a program and waits until it listens on `port`. */
async function started(name, command, args, port) {
  const program = new Program(name, command, args, { cwd: folder });
  programs.push(program);
  const deadline = Date.now() + 60_000;
  for (;;) {
    const connected = await new Promise((resolve) => {
      const socket = createConnection({ host: '127.0.0.1', port }, () => resolve(true));
      socket.on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
    if (connected) return;
    if (program.process.exitCode !== null || Date.now() > deadline) throw new Error(`${name} does not listen:\n${program.output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The program's result for a request. */
function probe({ url, method, headers, credentials }) {
  const fields = headers.flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
  const args = ['probe', url, '--origin', engine.origin, '--method', method, '--credentials', credentials, ...fields, '--send', '--format', 'json'];
  return new Promise((resolve, reject) => {
    execFile(BINARY, args, { maxBuffer: 2 ** 26 }, (error, output, complaint) => {
      if (error && error.code !== 1) reject(new Error(`${url}: ${complaint}`));
      else resolve(JSON.parse(output));
    });
  });
}

/** Compares the probe with Chromium for each case: `[url, findings, request]`. */
async function compare(kind, cases) {
  const requests = cases.map(([url, , request]) => ({ url, origin: engine.origin, method: 'GET', headers: [], credentials: 'omit', mode: 'cors', ...request }));
  const seen = [];
  // One at a time, because the browser's harness identifies a request by its path.
  for (const request of requests) seen.push((await engine.run([request]))[0]);
  for (const [index, [url, findings]] of cases.entries()) {
    const document = await probe(requests[index]);
    const { outcome, verdict } = document;
    const said = { outcome, error: verdict.error ?? undefined, parameter: verdict.error ? verdict.parameter : undefined };
    const { outcome: got, cors } = seen[index];
    const where = `${requests[index].method} ${url}`;
    assert.deepEqual(said, { outcome: got, error: cors?.corsError, parameter: cors?.failedParameter }, where);
    if (outcome === 'readable') assert.deepEqual(verdict.readable_headers, seen[index].readable, where);
    assert.equal(document.server.kind, kind, where);
    assert.deepEqual(document.findings.map(({ id }) => id).sort(), findings, `${where}: ${JSON.stringify(document.findings)}`);
  }
}

test('nginx with three planted faults', async () => {
  const [port] = await freePorts(1);
  const add = (value, more = '') => `add_header Access-Control-Allow-Origin ${value} ${more};`;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/nginx-${name};`).join(' ');
  const user = process.getuid() === 0 ? 'user root;' : '';
  const own = `http://127.0.0.1:${port}`;
  const data = `alias ${folder}/data/;`;
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; worker_processes 1; ${user} pid ${folder}/nginx.pid; error_log stderr crit;
     events { worker_connections 64; }
     http { access_log off; ${temporary} server { listen 127.0.0.1:${port};
       location /right/ { ${data} ${add('*', 'always')} }
       location /errors/ { ${data} ${add('*')} }
       location /vary/ { ${data} ${add('$http_origin', 'always')} }
       location /twice/ { proxy_pass ${own}/right/; ${add('*', 'always')} }
     } }`,
  );
  await started('nginx', NGINX, ['-p', folder, '-e', 'stderr', '-c', join(folder, 'nginx.conf')], port);
  await compare('nginx', [
    [`${own}/right/b/k`, []],
    [`${own}/errors/b/k`, ['error_without_cors']],
    [`${own}/vary/b/k`, ['any_origin', 'no_vary_origin']],
    [`${own}/twice/b/k`, ['doubled_field', 'response_blocked']],
    // Static files do not support OPTIONS.
    [`${own}/right/b/k`, ['preflight_blocked'], { method: 'PUT' }],
  ]);
});

test('Caddy', async () => {
  const [port] = await freePorts(1);
  const site = `{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\nhttp://:${port} {\n\tbind 127.0.0.1\n\troot * ${folder}/data\n\thandle /cors/* {\n\t\turi strip_prefix /cors\n\t\theader Access-Control-Allow-Origin *\n\t\tfile_server\n\t}\n\tfile_server\n}\n`;
  await writeFile(join(folder, 'Caddyfile'), site);
  await started('Caddy', CADDY, ['run', '--adapter', 'caddyfile', '--config', join(folder, 'Caddyfile')], port);
  const own = `http://127.0.0.1:${port}`;
  await compare('caddy', [
    [`${own}/b/k`, ['response_blocked']],
    [`${own}/cors/b/k`, []],
    [`${own}/cors/b/k`, ['preflight_blocked'], { headers: [['x-a', '1']] }],
    [`${own}/cors/b/k`, ['response_blocked'], { credentials: 'include' }],
  ]);
});

test('s3cors', async () => {
  const [upstream] = await freePorts(1);
  const site = `{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n}\nhttp://:${upstream} {\n\tbind 127.0.0.1\n\troot * ${folder}/data\n\tfile_server\n}\n`;
  await writeFile(join(folder, 'Upstream'), site);
  await started('Caddy', CADDY, ['run', '--adapter', 'caddyfile', '--config', join(folder, 'Upstream')], upstream);
  const rules = [{ origins: [engine.origin], methods: ['GET', 'PUT'], headers: ['x-a'], expose: ['etag'], maxAge: 600 }];
  const proxy = await startProxy(folder, [{ name: 'site', host: '127.0.0.1', upstream: `http://127.0.0.1:${upstream}`, rules }]);
  programs.push(proxy.program);
  const own = `http://127.0.0.1:${proxy.port}`;
  await compare('s3cors', [
    [`${own}/b/k`, []],
    [`${own}/b/missing`, ['error_status']],
    [`${own}/b/k`, [], { headers: [['x-a', '1']], credentials: 'include' }],
    [`${own}/b/k`, ['preflight_blocked'], { headers: [['x-b', '1']] }],
    [`${own}/b/k`, ['preflight_blocked'], { method: 'DELETE' }],
  ]);
});

/** A bucket of a store, with an object and a CORS configuration. */
async function bucket(endpoint, credentials) {
  const s3 = new S3Client({ endpoint, credentials, region: 'us-east-1', forcePathStyle: true });
  for (const Bucket of ['plain', 'ruled']) {
    await s3.send(new CreateBucketCommand({ Bucket }));
    await s3.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'an object' }));
  }
  const CORSRules = [{ AllowedOrigins: [engine.origin], AllowedMethods: ['GET'], AllowedHeaders: ['x-a'], ExposeHeaders: ['ETag'], MaxAgeSeconds: 600 }];
  await s3.send(new PutBucketCorsCommand({ Bucket: 'ruled', CORSConfiguration: { CORSRules } }));
}

test('SeaweedFS', async () => {
  await mkdir(join(folder, 'weed'));
  const store = await startSeaweedfs(join(folder, 'weed'));
  programs.push(store);
  const own = `http://127.0.0.1:${store.port}`;
  await bucket(own, CREDENTIALS);
  // Reading needs a signature, so the response is an error, like most first attempts.
  await compare('seaweedfs', [
    [`${own}/plain/k`, ['any_origin', 'error_status']],
    [`${own}/ruled/k`, ['error_status']],
    [`${own}/ruled/k`, ['error_status'], { headers: [['x-a', '1']] }],
    [`${own}/ruled/k`, ['preflight_blocked'], { headers: [['x-b', '1']] }],
    [`${own}/ruled/k`, ['preflight_blocked'], { method: 'DELETE' }],
  ]);
});

test('moto', { skip: !MOTO && 'S3CORS_MOTO is not set' }, async () => {
  const [port] = await freePorts(1);
  await started('moto', MOTO, ['-H', '127.0.0.1', '-p', String(port)], port);
  const own = `http://127.0.0.1:${port}`;
  await bucket(own, { accessKeyId: 'a', secretAccessKey: 'b' });
  await compare('s3-compatible', [
    [`${own}/plain/k`, ['any_origin', 'error_status', 'no_vary_origin']],
    [`${own}/ruled/k`, ['any_origin', 'error_status', 'no_vary_origin']],
    [`${own}/plain/k`, ['any_origin', 'no_vary_origin', 'preflight_blocked'], { headers: [['x-a', '1']] }],
  ]);
});
