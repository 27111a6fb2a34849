// Reads a request out of the message that a browser printed: those of Chromium, Firefox and WebKit.

/** The parts of a request that a message names. */
export function readMessage(message) {
  const find = (...patterns) => {
    for (const pattern of patterns) {
      const match = pattern.exec(message);
      if (match) return match[1];
    }
    return null;
  };
  return {
    url: find(
      /Access to (?:fetch|XMLHttpRequest|font|script|image|video|audio|resource|CSS stylesheet|internal resource) at ['‘](\S+?)['’]/i,
      /remote resource at (\S+?)\.? \(Reason/i,
      /(?:Fetch API|XMLHttpRequest) cannot load (\S+?)\.? due to/i,
      /\b(https?:\/\/\S+?)['’".]?(?:\s|$)/i),
    origin: find(
      /from origin ['‘](\S+?)['’]/i,
      /Origin (\S+) is not allowed by Access-Control-Allow-Origin/i),
    method: find(
      /Method (\S+) is not allowed by Access-Control-Allow-Methods/i,
      /Did not find method in CORS header[^:]*:?\s*['‘]?([A-Z]+)/i),
    header: find(
      /Request header field (\S+) is not allowed by Access-Control-Allow-Headers/i,
      /header ['‘](\S+?)['’] is not allowed according to header/i,
      /missing token ['‘](\S+?)['’] in CORS header ['‘]Access-Control-Allow-Headers/i),
  };
}
