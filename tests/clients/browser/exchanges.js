// Generates exchanges (what a script requests, and what a server answers) from a seed.

/** A generator of numbers in [0, 1), the same for the same seed (mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const METHODS = ['GET', 'GET', 'GET', 'HEAD', 'POST', 'PUT', 'PUT', 'DELETE', 'PATCH', 'patch', 'put', 'get', 'OPTIONS', 'CHICKEN'];
const FIELDS = [
  ['content-type', ['text/plain', 'application/json', 'text/plain;charset=utf-8', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded',
    'text/plain; a="b"', 'TEXT/PLAIN', 'image/jpeg', 'text/plain, a', '', `text/plain;a=${'x'.repeat(120)}`]],
  ['accept', ['*/*', 'application/json', 'a(b)', 'a:b', `${'a'.repeat(128)}`, `${'a'.repeat(129)}`, 'text/html;q="1"']],
  ['accept-language', ['de', 'en;q=0.5, de', 'en_US', 'en@x']],
  ['content-language', ['de', 'de, en', 'de/en']],
  ['range', ['bytes=0-99', 'bytes=5-', 'bytes=-5', 'bytes=9-2', 'bytes=0-1,3-4', 'bytes= 0-9', 'BYTES=0-1', 'chars=0-1']],
  ['x-a', ['1', '']],
  ['x-b', ['2']],
  ['authorization', ['Bearer x', 'AWS4-HMAC-SHA256 Credential=x']],
  ['x-amz-date', ['20260101T000000Z']],
  ['x-amz-meta-a', ['a']],
  ['if-none-match', ['"x"']],
  ['cache-control', ['no-cache']],
  ['save-data', ['on', 'off']],
  ['dpr', ['2.0', 'x']],
  ['user-agent', ['me']],
  ['cookie', ['a=b']],
  ['sec-x', ['1']],
  ['proxy-a', ['1']],
  ['x-http-method-override', ['PUT', 'TRACE']],
];
const EXPOSED = ['etag', 'x-amz-request-id', 'x-amz-meta-a', 'date'];

/** `count` exchanges of a page of `origin` with the servers at the origins `server` and `other`. */
export function exchanges({ seed, count, origin, server, other }) {
  const next = random(seed);
  const chance = (share) => next() < share;
  const pick = (list) => list[Math.floor(next() * list.length)];
  const some = (list, share) => list.filter(() => chance(share));
  // Most responses are correct, so that later checks are reached, too.
  const mostly = (right, others, share = 0.75) => (chance(share) ? right : pick(others));

  function allowOrigin(credentials) {
    const right = credentials === 'include' ? [origin] : chance(0.5) ? ['*'] : [origin];
    return mostly(right, [
      [], ['*'], [''], ['null'], [`${origin}/`], [origin.toUpperCase()], ['https://other.example'], [`${origin}, ${origin}`], [`${origin}, *`],
      [origin, origin], ['*', '*'], ['* '], [`${origin} `], ['http://'], ['localhost'], ['*.example'], [`${origin} x`], ['https://a b'], ['http://127.0.0.1'],
      [origin, 'https://other.example'], ['**'], ['"*"'], ['http://[', 'x'], ['http://exa mple'], ['http:///x'], ['a:b'], ['http://x:99999'], ['//x'], [','], ['', origin], ['NULL'],
    ], 0.7).map((value) => ['Access-Control-Allow-Origin', value]);
  }
  function allowCredentials(credentials) {
    const right = credentials === 'include' ? ['true'] : [];
    return mostly(right, [[], ['true'], ['TRUE'], ['false'], [''], ['true, true'], ['true', 'true'], [' true '], ['1']]).map((value) => [
      'Access-Control-Allow-Credentials', value,
    ]);
  }
  function allowMethods(method) {
    const list = ['GET', 'PUT', 'DELETE'];
    const right = chance(0.5) ? [[...list, method].join(', ')] : [method];
    return mostly(right, [[], [''], ['*'], [method.toLowerCase()], [method.toUpperCase()], ['GET'], ['GET', method], [`GET,,${method}`], [`GET ${method}`],
      ['GET, {x}'], [`${method}, P@T`], ['"PUT"'], [`*, ${method}`], ['PUT;DELETE'], ['**'], [`${method},`], [`,${method}`]]).map((value) => ['Access-Control-Allow-Methods', value]);
  }
  function allowHeaders(headers) {
    const names = headers.map(([name]) => name);
    const right = chance(0.7) ? [names.join(', ')] : ['*'];
    return mostly(right, [[], [''], ['*'], [names.join(',').toUpperCase()], ['x-a'], names, [`${names.join(', ')}, bad name`], [`*, authorization`], [names.slice(1).join(', ')],
      [`${names.join(';')}`], ['authorization'], [`${names.join(', ')}, (x)`], ['*', ...names], [`,${names.join(',,')},`]]).map((value) => ['Access-Control-Allow-Headers', value]);
  }
  function maxAge() {
    return chance(0.7) ? [] : [['Access-Control-Max-Age', pick(['0', '5', '600', '-1', 'x', '', '86401', '1, 2'])]];
  }
  function expose() {
    const lists = [[], ['etag'], ['ETag, X-Amz-Request-Id'], ['*'], ['etag', 'x-amz-request-id'], ['etag,,date'], ['"etag"'], ['etag;x-amz-request-id'], ['*, etag'],
      ['etag, bad name'], ['set-cookie, etag'], ['etag, {'], ['content-encoding, etag'], [''], [' etag '], ['**']];
    return pick(lists).map((value) => ['Access-Control-Expose-Headers', value]);
  }
  function response(credentials, method) {
    const status = mostly(200, [201, 204, 205, 206, 304, 400, 403, 404, 407, 412, 500, 503, 699], 0.7);
    const fields = [...allowOrigin(credentials), ...allowCredentials(credentials), ...expose()];
    for (const name of EXPOSED) if (chance(0.6)) fields.push([name, name === 'date' ? 'Mon, 30 Nov 2026 00:00:00 GMT' : '"x"']);
    if (chance(0.7)) fields.push(['content-type', pick(['text/plain', 'application/xml'])]);
    for (const [name, value] of some([['set-cookie', 'a=b'], ['content-language', 'de'], ['expires', '0'], ['pragma', 'x'], ['last-modified', 'x'], ['set-cookie2', 'a'], ['accept-ranges', 'bytes'], ['vary', 'origin'], ['content-range', 'bytes 0-1/9']], 0.2)) {
      fields.push([name, value]);
    }
    fields.push(['cache-control', 'no-store']);
    if (![204, 304].includes(status)) fields.push(['content-length', '2']);
    return { status, headers: fields };
  }
  /** A redirect to the next step of exchange `number`, or to a URL that browsers do not follow. */
  function redirect(number, hop, credentials) {
    const status = pick([301, 302, 303, 307, 308]);
    const next = `${number}.${hop}`;
    const to = chance(0.5) ? server : other;
    const location = mostly(pick([`${to}/${next}`, `${to}/${next}`, `/${next}`, next, `./x/../${next}`, `${to.slice('http:'.length)}/${next}`, `${to}/${next}#x`]), [
      to.replace('http://', 'http://user:secret@') + `/${next}`, to.replace('http://', `http://${pick(['@', ':@', 'user:@', 'user@', ':secret@'])}`) + `/${next}`, 'ftp://127.0.0.1/x', 'data:text/plain,x', 'mailto:x', 'http://[/',
    ], 0.9);
    return { status, headers: [...allowOrigin(credentials), ...allowCredentials(credentials), ['Location', location], ['cache-control', 'no-store'], ['content-length', '2']] };
  }
  /** Like `response`, for a request whose origin may have become `null` by redirects. */
  function afterRedirect(credentials, method) {
    const answer = response(credentials, method);
    if (!chance(0.4)) return answer;
    return { ...answer, headers: answer.headers.map(([name, value]) => [name, name === 'Access-Control-Allow-Origin' && value === origin ? 'null' : value]) };
  }
  function preflight(request) {
    if (chance(0.02)) return null;
    const status = mostly(200, [204, 201, 299, 301, 307, 400, 401, 403, 404, 405, 407, 500, 304, 699], 0.85);
    const { credentials, method, headers } = request;
    const fields = [...allowOrigin(credentials), ...allowCredentials(credentials), ...allowMethods(method), ...allowHeaders(headers), ...maxAge()];
    if ([301, 307].includes(status)) fields.push(['Location', `${server}/elsewhere`]);
    return { status, headers: fields };
  }

  return Array.from({ length: count }, (_, number) => {
    const method = pick(METHODS);
    const simple = ['GET', 'HEAD', 'POST', 'get'].includes(method);
    const headers = some(FIELDS, simple && chance(0.5) ? 0.04 : 0.12).map(([name, values]) => [name, pick(values)]);
    if (chance(0.02)) {
      // More than 1,024 bytes in safelisted values, each of them short.
      headers.push(...['accept', 'accept-language', 'content-language'].flatMap((name) => Array.from({ length: 3 }, () => [name, 'a'.repeat(pick([100, 120, 128]))])));
    }
    const request = { origin, url: `${server}/${number}`, method, headers, credentials: pick(['omit', 'same-origin', 'include']), mode: chance(0.93) ? 'cors' : 'no-cors' };
    const exchange = { request, preflight: preflight(request), response: chance(0.02) ? null : response(request.credentials, method) };
    // Chromium loses some client hints on redirects, so exchanges with redirects have none.
    if (chance(0.85) || headers.some(([name]) => name === 'dpr')) return exchange;
    const hops = pick([1, 1, 1, 2, 3]);
    exchange.response = redirect(number, 1, request.credentials);
    exchange.redirected = Array.from({ length: hops }, (_, hop) => ({
      preflight: preflight(request),
      response: hop + 1 < hops ? redirect(number, hop + 2, request.credentials) : afterRedirect(request.credentials, method),
    }));
    return exchange;
  });
}

/** The scripted servers' responses at each path, for `list`. */
export function scripts(list) {
  const answers = new Map();
  list.forEach(({ request, preflight, response, redirected = [] }) => {
    const key = new URL(request.url).pathname.slice(1);
    answers.set(key, { preflight, response });
    redirected.forEach((answer, hop) => answers.set(`${key}.${hop + 1}`, answer));
  });
  return answers;
}
