// The s3cors binary as users run it: a folder with a config, a process, and its two listeners.

import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Program } from './programs.js';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');

export const BINARY = process.env.S3CORS_BIN ?? join(ROOT, 'target/release/s3cors');

/** A CORSRule of S3's document. */
export function rule({ origins, methods = ['GET'], headers = [], expose = [], maxAge }) {
  const many = (name, values) => values.map((value) => `<${name}>${value}</${name}>`).join('');
  const age = maxAge === undefined ? '' : `<MaxAgeSeconds>${maxAge}</MaxAgeSeconds>`;
  return (
    '<CORSRule>' +
    many('AllowedOrigin', origins) +
    many('AllowedMethod', methods) +
    many('AllowedHeader', headers) +
    many('ExposeHeader', expose) +
    age +
    '</CORSRule>'
  );
}

/**
 * A proxy with a route for each entry of `routes`: `{ name, host, upstream, rules, buckets }`, without a policy if
 * there are no `rules`; `buckets` is a folder of bucket policies.
 *
 * `listener` extends the listener's table; `adminPort` is the admin listener's port, by default a free one. Returns the
 * program, its port, the admin listener's URL, and `metric(name, labels)`.
 */
export async function startProxy(folder, routes, listener = '', adminPort = 0) {
  // JSON strings and lists are also valid TOML.
  const toml = (value) => JSON.stringify(value);
  let config = `[[listen]]\naddress = "127.0.0.1:0"\n${listener}\n\n[admin]\naddress = "127.0.0.1:${adminPort}"\n`;
  for (const { name, host, upstream, rules, buckets } of routes) {
    if (rules) await writeFile(join(folder, `${name}.xml`), `<CORSConfiguration>${rules.map(rule).join('')}</CORSConfiguration>`);
    config += `\n[[route]]\nname = ${toml(name)}\nhost = [${toml(host)}]\nupstream = [${toml(upstream)}]\n`;
    if (rules) config += `cors = ${toml(`${name}.xml`)}\n`;
    if (buckets) {
      await mkdir(join(folder, buckets));
      config += `buckets = { directory = ${toml(buckets)}, address = "path" }\n`;
    }
  }
  await writeFile(join(folder, 's3cors.toml'), config);

  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('S3CORS_'));
  const program = new Program('s3cors', BINARY, ['run', '--config', 's3cors.toml'], {
    cwd: folder,
    env: Object.fromEntries(environment),
  });
  try {
    const [, admin] = await program.said(/listening for the operator address=127\.0\.0\.1:(\d+)/);
    const [, port] = await program.said(/listening address=127\.0\.0\.1:(\d+)/);
    return { program, port: Number(port), admin: `http://127.0.0.1:${admin}`, metric: (name, labels) => metric(admin, name, labels) };
  } catch (error) {
    await program.stop();
    throw error;
  }
}

/** The sum of the series with this name and these labels. */
async function metric(port, name, labels = {}) {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  const text = await response.text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .filter((line) => wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}
