// What the reasons of refusals mean, in plain words.

const POLICY = {
  origin: "Origin not allowed",
  method: "Method not allowed",
  header: "Request header not allowed",
  no_cors: "No CORS policy applies",
  malformed: "Malformed CORS request",
};

const UPSTREAM = {
  MissingAllowOriginHeader: "Upstream sends no CORS headers",
  PreflightMissingAllowOriginHeader: "Upstream does not answer preflights",
  WildcardOriginNotAllowed: "Upstream allows any origin, which excludes credentials",
  AllowOriginMismatch: "Upstream allows another origin",
  PreflightAllowOriginMismatch: "Upstream allows another origin",
  PreflightInvalidStatus: "Upstream rejects the preflight",
  MethodDisallowedByPreflightResponse: "Upstream does not allow the method",
  HeaderDisallowedByPreflightResponse: "Upstream does not allow a header",
};

/** Why a request is refused, in a few words. `by` and `reason` are those of an event's `refused`. */
export function reasonTitle({ by, reason }) {
  if (by === "no_route") return "No route for this host";
  if (by === "policy" && POLICY[reason]) return POLICY[reason];
  return UPSTREAM[reason] ?? String(reason).replaceAll(/([a-z])([A-Z])/g, "$1 $2");
}

/** Why a request is refused, in a sentence. */
export function why(event) {
  if (event.why) return event.why;
  if (event.refused?.by === "no_route") return "no route serves this host, so the response has no CORS headers and browsers block it";
  if (event.refused?.by === "upstream") return "this route has no CORS policy, and browsers block what the upstream answered";
  return "browsers block the response";
}

export const OUTCOMES = {
  allowed: ["✓", "Allowed"],
  refused: ["✗", "Refused"],
  other: ["→", "Not decided here"],
};

/** The outcome of an event: `allowed`, `refused`, or `other` where s3cors does not decide. */
export function outcome(event) {
  if (event.refused) return "refused";
  return event.cors?.outcome === "allowed" || event.cors?.verdict === "readable" || event.cors?.verdict === "passed" ? "allowed" : "other";
}

/** What failed: the header names, the method, or the origin. */
export function failed(event) {
  const reason = event.refused?.reason;
  if (event.missing?.length) return event.missing.join(", ");
  if (reason === "method") return event.cors.method ?? event.method;
  if (reason === "header") return event.cors.headers ?? "";
  return "";
}
