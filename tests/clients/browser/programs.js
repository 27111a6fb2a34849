// A program that a test starts, whose output it waits for, and that it stops by its process ID.

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
    // The error of a program that cannot be started; waiters get it, too.
    this.ended.catch(() => {});
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        this.output += text;
      });
    }
  }

  /** Waits for the first match of `pattern` in its output. */
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
        throw new Error(`${this.name} did not print ${pattern}:\n${this.output}`, { cause: error });
      } finally {
        heard.abort();
      }
    }
  }

  /** Stops it and waits for its end. */
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

/** Ports that were free a moment ago, for programs that cannot use port 0. */
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
