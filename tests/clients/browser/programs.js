// A program that a test starts, waits for by what it says, and stops by its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

const STOP_MILLISECONDS = 60_000;

export class Program {
  constructor(name, command, args, options = {}) {
    this.name = name;
    this.output = '';
    this.process = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.process, 'close');
    // A program that cannot be started says so here; whoever waits for it hears of it.
    this.ended.catch(() => {});
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        this.output += text;
      });
    }
  }

  /** The first match of `pattern` in what it says. */
  async said(pattern, milliseconds = 30_000) {
    const signal = AbortSignal.timeout(milliseconds);
    for (;;) {
      const match = pattern.exec(this.output);
      if (match) return match;
      if (this.process.exitCode !== null) throw new Error(`${this.name} ended:\n${this.output}`);
      const heard = new AbortController();
      const either = AbortSignal.any([signal, heard.signal]);
      try {
        await Promise.race([
          once(this.process.stdout, 'data', { signal: either }),
          once(this.process.stderr, 'data', { signal: either }),
          once(this.process, 'close', { signal: either }),
        ]);
      } catch (error) {
        throw new Error(`${this.name} did not say ${pattern}:\n${this.output}`, { cause: error });
      } finally {
        heard.abort();
      }
    }
  }

  /** Ends it, and waits until it is gone. */
  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill(signal);
      const late = setTimeout(() => this.process.kill('SIGKILL'), STOP_MILLISECONDS);
      await this.ended;
      clearTimeout(late);
    }
    return this.process.exitCode;
  }
}

/** Ports that the system gave and that are free again, for programs that cannot ask for one. */
export async function freePorts(count) {
  const servers = [];
  for (let index = 0; index < count; index += 1) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  for (const server of servers) {
    server.close();
    await once(server, 'close');
  }
  return ports;
}
