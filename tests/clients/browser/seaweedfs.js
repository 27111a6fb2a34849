// SeaweedFS: a real S3 server that checks signatures.

import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { freePorts, Program } from './programs.js';
import { ROOT } from './proxy.js';

export const CREDENTIALS = { accessKeyId: 'AKIATEST', secretAccessKey: 'secrettest' };

const WEED = process.env.S3CORS_WEED ?? join(ROOT, 'target/clients/venv/bin/weed');
const READY_MILLISECONDS = 60_000;
// Each server has a port, and another one for gRPC.
const PARTS = ['master', 'volume', 'filer', 's3'];
// The ports must be chosen in advance, so another program may take one; then it is tried again with
// others.
const ATTEMPTS = 3;

/** Starts a server with an empty folder and waits until it answers. */
export async function startSeaweedfs(folder) {
  await mkdir(join(folder, 'data'), { recursive: true });
  const identity = {
    name: 'test',
    credentials: [{ accessKey: CREDENTIALS.accessKeyId, secretKey: CREDENTIALS.secretAccessKey }],
    actions: ['Admin', 'Read', 'Write', 'List', 'Tagging'],
  };
  await writeFile(join(folder, 's3.json'), JSON.stringify({ identities: [identity] }));
  for (let attempt = 1; ; attempt += 1) {
    const server = new SeaweedFS(folder, await freePorts(2 * PARTS.length));
    try {
      await ready(server);
      return server;
    } catch (error) {
      await server.stop();
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

/** A running server, and its S3 port. */
class SeaweedFS extends Program {
  constructor(folder, ports) {
    const addresses = PARTS.flatMap((name, index) => [
      `-${name}.port=${ports[index]}`,
      `-${name}.port.grpc=${ports[PARTS.length + index]}`,
    ]);
    const where = [`-dir=${join(folder, 'data')}`, '-ip=127.0.0.1', '-ip.bind=127.0.0.1', ...addresses];
    const what = ['-filer', '-s3', '-s3.iam=false', '-s3.port.iceberg=0', '-s3.port.lance=0'];
    // Each bucket takes several volumes: with the default limit, the third bucket answers 500.
    const how = ['-master.volumeSizeLimitMB=64', '-volume.max=100', '-master.telemetry=false'];
    const identities = `-s3.config=${join(folder, 's3.json')}`;
    super('SeaweedFS', WEED, ['server', ...where, ...what, ...how, identities], { cwd: folder });
    this.ports = ports;
    this.port = ports[PARTS.indexOf('s3')];
  }

  /** Kills it: a clean stop takes more than ten seconds, and its data is not needed. */
  async stop() {
    await super.stop('SIGKILL');
    // A clean stop would have removed these.
    for (const name of await readdir('/tmp')) {
      const [, port] = /^seaweedfs-.*-(\d+)\.sock$/.exec(name) ?? [];
      if (this.ports.includes(Number(port))) await rm(join('/tmp', name), { force: true });
    }
  }
}

async function ready(server) {
  const deadline = Date.now() + READY_MILLISECONDS;
  while (Date.now() < deadline && server.process.exitCode === null) {
    try {
      const response = await fetch(`http://127.0.0.1:${server.port}/`);
      await response.arrayBuffer();
      if ([200, 403].includes(response.status)) return;
    } catch {
      // Not ready yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`SeaweedFS was not ready:\n${server.output}`);
}
