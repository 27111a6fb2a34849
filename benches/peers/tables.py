"""Turns samples into tables: medians, ratios to the best, spreads, and the ratios that s3cors claims."""

import statistics

HIGHER_IS_BETTER = {"rps", "mib_s"}
# Shown, but not ranked.
NEUTRAL = {"kernel", "cores", "noise"}


def median(result, scenario, name, figure):
    """`None`: not measured."""
    rows = result["samples"].get(scenario, {}).get(name, [])
    values = [row[figure] for row in good(rows) if row.get(figure) is not None]
    return statistics.median(values) if values else None


def good(rows):
    """Rounds without errors; if there are none, all rounds."""
    return [row for row in rows if not row.get("errors")] or rows


def summarise(by_name, figures):
    """For each name and figure: median, least, most, ratio to the best (1 or more, or `None`)."""
    summary = {}
    for name, rows in by_name.items():
        cells = {}
        for figure in figures:
            values = [row[figure] for row in good(rows) if row.get(figure) is not None]
            if values:
                cells[figure] = (statistics.median(values), min(values), max(values))
        summary[name] = cells
    for figure in figures:
        medians = [cells[figure][0] for cells in summary.values() if figure in cells]
        best = (max if figure in HIGHER_IS_BETTER else min)(medians, default=None)
        for cells in summary.values():
            if figure in cells:
                cells[figure] += (ratio_to_best(cells[figure][0], best, figure),)
    return summary


def ratio_to_best(value, best, figure):
    if figure in NEUTRAL or not value or not best:
        return None
    return best / value if figure in HIGHER_IS_BETTER else value / best


def number(value):
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def cell(figure, value):
    if value is None:
        return "–"
    middle, least, most, ratio = value
    if figure in NEUTRAL:
        return number(middle)
    spread = f" ({number(least)}–{number(most)})" if least != most else ""
    return f"**{number(middle)}**" + (f" ×{ratio:.2f}" if ratio else "") + spread


def scenario_table(name, means, by_name, figures):
    summary = summarise(by_name, figures)
    figures = [figure for figure in figures if any(figure in cells for cells in summary.values())]
    if not figures:
        return f"### {name}: {means}\n\nno sample\n"
    first = figures[0]
    order = sorted(summary, key=lambda who: summary[who].get(first, (float("inf"),))[0])
    if first in HIGHER_IS_BETTER:
        order.reverse()
    lines = [f"### {name}: {means}", "", row("contender", *figures, "errors"), row(*["---"] * (len(figures) + 2))]
    for who in order:
        cells = [cell(figure, summary[who].get(figure)) for figure in figures]
        lines.append(row(who, *cells, sum(one.get("errors", 0) for one in by_name[who])))
    return "\n".join(lines) + "\n"


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def calls_table(kind, by_name):
    lines = [f"### system calls of a request: {kind}", "", row("contender", "all", "by call"), row("---", "---", "---")]
    for who in sorted(by_name, key=lambda who: by_name[who]["all"]):
        calls = ", ".join(f"{name} {count:.2f}" for name, count in by_name[who]["calls"].items())
        lines.append(row(who, f"{by_name[who]['all']:.2f}", calls))
    return "\n".join(lines) + "\n"


def claims(result, ours, peers):
    """The claims of s3cors: description, figure, limit. `None`: not measured."""
    def of(scenario, figure="cpu_us", name=ours):
        return median(result, scenario, name, figure)

    def best(scenario, figure="cpu_us"):
        values = [of(scenario, figure, peer) for peer in peers]
        return min((value for value in values if value), default=None)

    def calls(kind):
        return result["calls"].get(kind, {}).get(ours, {}).get("all")

    gib = "cpu_s_gib"
    return [
        ("allowed preflight, CPU ÷ best peer", ratio(of("preflight"), best("preflight")), 0.85),
        ("allowed preflight, CPU ÷ raw HTTP", ratio(of("preflight"), of("preflight", name="raw-http")), 1.1),
        ("refused preflight, CPU ÷ our allowed one", ratio(of("preflight-refused"), of("preflight")), 1.3),
        ("GET 1 KiB, CPU ÷ best peer", ratio(of("get1k"), best("get1k")), 0.95),
        ("GET 1 KiB, CPU ÷ raw relay", ratio(of("get1k"), of("get1k", name="raw-relay")), 1.5),
        ("GET 1 KiB, CPU ÷ raw HTTP", ratio(of("get1k"), of("get1k", name="raw-http")), None),
        ("GET 1 KiB without Origin, CPU ÷ best peer", ratio(of("get1k-no-origin"), best("get1k-no-origin")), None),
        ("GET 100 KiB, CPU ÷ best peer", ratio(of("get100k"), best("get100k")), None),
        ("GET 1 KiB over TLS, HTTP/1.1, CPU ÷ best peer", ratio(of("tls1k-h1"), best("tls1k-h1")), 0.8),
        ("GET 1 KiB over TLS, HTTP/2, CPU ÷ best peer", ratio(of("tls1k-h2"), best("tls1k-h2")), 1.0),
        ("new TLS connection, CPU ÷ best peer", ratio(of("tls-new"), best("tls-new")), 1.0),
        ("new TLS connection with client_ca, CPU ÷ without",
         ratio(of("tls-client-ca"), of("tls-new")), None),
        ("new TLS connection with client_ca, CPU ÷ best peer",
         ratio(of("tls-client-ca"), best("tls-client-ca")), None),
        ("resumed TLS connection, CPU ÷ best peer", ratio(of("tls-resumed"), best("tls-resumed")), 1.0),
        ("1 GiB down, CPU ÷ best peer without splice", ratio(of("get1g", gib), best("get1g", gib)), 0.8),
        ("1 GiB up, CPU ÷ best peer without splice", ratio(of("put64m", gib), best("put64m", gib)), 0.8),
        ("1 GiB down, CPU ÷ HAProxy with splice",
         ratio(of("get1g", gib), of("get1g", gib, "haproxy-splice")), 1.3),
        ("1 GiB up, CPU ÷ HAProxy with splice",
         ratio(of("put64m", gib), of("put64m", gib, "haproxy-splice")), 1.3),
        ("PUT 896 MiB over TLS, HTTP/2, time ÷ HAProxy",
         ratio(of("put-h2", "mib_s", "haproxy"), of("put-h2", "mib_s")), 1.0),
        ("PUT 896 MiB over TLS, HTTP/2, CPU ÷ HAProxy",
         ratio(of("put-h2", gib), of("put-h2", gib, "haproxy")), 0.6),
        ("p99 at the fixed rate ÷ best peer", ratio(of("get1k-rate", "p99_us"), best("get1k-rate", "p99_us")), 1.0),
        ("RSS fresh, MiB", of("memory", "fresh_mib"), 12),
        ("idle connection, KiB", of("memory", "kib_connection"), 2),
        ("system calls of a GET 1 KiB", calls("get1k"), 4.3),
        ("GET 1 KiB, instructions ÷ ourselves without policy",
         ratio(of("instructions", "get1k"), of("instructions", "get1k", f"{ours}-bare")), 1.08),
        ("GET 1 KiB, access log on ÷ off, CPU", ratio(of("get1k-log"), of("get1k")), 1.15),
    ]


def ratio(one, other):
    return one / other if one is not None and other else None


def claims_table(result, ours, peers):
    lines = [f"## {ours}", "", row("figure", "is", "at most", ""), row("---", "---", "---", "---")]
    for words, value, limit in claims(result, ours, peers):
        if value is None:
            continue
        verdict = "" if limit is None else "holds" if value <= limit else "**missed**"
        lines.append(row(words, f"{value:.2f}", "–" if limit is None else limit, verdict))
    return "\n".join(lines) + "\n"


def merge(results):
    """Merges the samples of several runs."""
    first, *others = results
    for other in others:
        for scenario, by_name in other["samples"].items():
            for name, rows in by_name.items():
                first["samples"].setdefault(scenario, {}).setdefault(name, []).extend(rows)
        for kind, by_name in other["calls"].items():
            first["calls"].setdefault(kind, {}).update(by_name)
        first["verified"].update(other["verified"])
        first["ours"] = list(dict.fromkeys(first["ours"] + other["ours"]))
    return first


def report(result, scenarios, peers):
    """A whole run in Markdown."""
    machine = result["machine"]
    lines = [f"{result['when']}; {machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; "
             f"{result['rounds']} rounds of {result['seconds']} s, in turn. Medians, ×ratio to the best, "
             "(least–most).", ""]
    wrong = {name: rules for name, rules in result["verified"].items() if rules}
    for name, rules in wrong.items():
        lines.append(f"Not right: {name}: {'; '.join(rules)}.\n")
    lines += [claims_table(result, ours, peers) for ours in result["ours"]]
    for name, by_name in result["samples"].items():
        lines.append(scenario_table(name, scenarios[name].means, by_name, scenarios[name].figures))
    lines += [calls_table(kind, by_name) for kind, by_name in result["calls"].items()]
    return "\n".join(lines)
