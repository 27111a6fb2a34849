// Compares `s3cors verdict` with what a browser did.

import { execFile } from 'node:child_process';

import { BINARY } from './proxy.js';

/** The program's verdict on each exchange. */
export function judge(list) {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 2 ** 28 };
    const program = execFile(BINARY, ['verdict', '--format', 'json', '-'], options, (error, output, complaint) => {
      // Exit code 1: some are blocked.
      if (error && error.code !== 1) reject(new Error(complaint));
      else resolve(output.trimEnd().split('\n').map((line) => JSON.parse(line)));
    });
    program.stdin.end(list.map((exchange) => `${JSON.stringify(exchange)}\n`).join(''));
  });
}

/** How a verdict and a browser differ; undefined if they do not. */
export function compare(engine, exchange, verdict, seen, asked) {
  const own = verdict.differs?.[engine];
  const outcome = own ? own.split(',')[0] : verdict.outcome;
  if (outcome !== seen.outcome) return { what: 'outcome', said: outcome, seen: seen.outcome, lines: seen.lines };
  const preflight = own ? own.includes('with a preflight') : verdict.preflight_sent;
  const wasAsked = asked.some((request) => request.preflight);
  // After redirects, it also counts the preflights of other URLs.
  if (asked.length && !exchange.redirected && preflight !== wasAsked) return { what: 'preflight', said: preflight, seen: wasAsked };
  if (outcome === 'readable') {
    const same = own || JSON.stringify(verdict.readable_headers) === JSON.stringify(seen.readable);
    return same ? undefined : { what: 'readable fields', said: verdict.readable_headers, seen: seen.readable };
  }
  if (outcome === 'opaque') return undefined;
  if (engine === 'chromium' && !own) {
    const said = { corsError: verdict.error ?? undefined, failedParameter: verdict.error ? verdict.parameter : undefined };
    const { corsError, failedParameter } = seen.cors ?? {};
    if (said.corsError !== corsError || said.failedParameter !== failedParameter) return { what: 'error', said, seen: seen.cors };
  }
  const [sentence] = seen.lines;
  const message = verdict.messages[engine];
  // If a server closes the connection, Firefox prints one of two messages, and not always the same
  // one.
  const hangsUp = engine === 'firefox' && message?.includes('did not succeed');
  if (hangsUp && sentence?.includes('Multiple CORS header')) return undefined;
  // WebKit prints a header's name as written in the script.
  const spelled = (text) => (engine === 'webkit' ? text?.toLowerCase() : text);
  return spelled(message) === spelled(sentence) ? undefined : { what: 'sentence', said: message, seen: seen.lines };
}
