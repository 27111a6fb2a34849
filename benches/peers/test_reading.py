"""Tests the parts of the bench that need no peer: parsing output, and making tables."""

import unittest

import tables
from client import parse_head
from counting import read_strace
from load import quantile, read_wrk, wrk_requests
from scenarios import SCENARIOS

WRK = """Running 1s test @ http://127.0.0.1:21003/1k
  Latency Distribution
     50%  736.00us
     75%    0.99ms
     99%    2.50ms
  40000 requests in 1.00s, 9.00MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 39990
Requests/sec:  39990.25
"""

STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.600000           1      2000           writev
 30.00    0.300000           1      2200       200 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.900000           1      4200       200 total
"""


class Reading(unittest.TestCase):
    def test_wrk(self):
        self.assertEqual(wrk_requests(WRK), 40000)
        got = read_wrk(WRK, "not 2xx")
        self.assertEqual(got, {"rps": 39990.25, "errors": 13, "p50_us": 736.0, "p99_us": 2500.0})
        self.assertEqual(read_wrk(WRK, "2xx")["errors"], 39993)
        self.assertEqual(read_wrk("unable to connect", "2xx")["errors"], 1)

    def test_strace(self):
        self.assertEqual(read_strace(STRACE), {"recvfrom": 2200, "writev": 2000})

    def test_a_head(self):
        status, fields = parse_head(b"HTTP/1.1 200 OK\r\nVary: a\r\nvary:  Origin \r\nETag: \"x:y\"")
        self.assertEqual((status, fields), (200, {"vary": "a, Origin", "etag": '"x:y"'}))

    def test_quantiles(self):
        self.assertEqual([quantile(list(range(100)), percent) for percent in (50, 99)], [50, 99])
        self.assertIsNone(quantile([], 50))


class Tables(unittest.TestCase):
    RESULT = {
        "when": "2026-01-01 00:00", "rounds": 3, "seconds": 2, "ours": ["s3cors"],
        "machine": {"processor": "P", "cores": 2, "kernel": "6"}, "verified": {"nginx": []},
        "samples": {"get1k": {
            "s3cors": [{"cpu_us": 10, "rps": 50}, {"cpu_us": 12, "rps": 40}, {"cpu_us": 1, "errors": 7}],
            "nginx": [{"cpu_us": 22, "rps": 100}],
            "caddy": [{"cpu_us": 90}],
            "raw-relay": [{"cpu_us": 8}],
        }},
        "calls": {"get1k": {"s3cors": {"all": 4.4, "calls": {"writev": 2.0}}}},
    }

    def test_rounds_with_errors_do_not_count(self):
        self.assertEqual(tables.median(self.RESULT, "get1k", "s3cors", "cpu_us"), 11)

    def test_ratios_are_to_the_best(self):
        summary = tables.summarise(self.RESULT["samples"]["get1k"], ["cpu_us", "rps"])
        self.assertEqual(summary["nginx"]["cpu_us"], (22, 22, 22, 2.75))
        self.assertEqual(summary["nginx"]["rps"][3], 1)
        self.assertAlmostEqual(summary["s3cors"]["rps"][3], 100 / 45)

    def test_the_best_peer_is_neither_the_floor_nor_ourselves(self):
        claimed = {words: (value, limit) for words, value, limit in
                   tables.claims(self.RESULT, "s3cors", ["nginx", "caddy"])}
        self.assertEqual(claimed["GET 1 KiB, CPU ÷ best peer"], (0.5, 0.95))
        self.assertEqual(claimed["GET 1 KiB, CPU ÷ raw relay"], (11 / 8, 1.5))
        self.assertEqual(claimed["system calls of a GET 1 KiB"], (4.4, 4.3))
        self.assertEqual(claimed["allowed preflight, CPU ÷ best peer"], (None, 0.85))

    def test_a_report_has_what_was_measured(self):
        text = tables.report(self.RESULT, SCENARIOS, ["nginx", "caddy"])
        self.assertIn("| GET 1 KiB, CPU ÷ best peer | 0.50 | 0.95 | holds |", text)
        self.assertIn("| system calls of a GET 1 KiB | 4.40 | 4.3 | **missed** |", text)
        self.assertIn("| s3cors | **11.0** ×1.38 (10.0–12.0) | **45.0** ×2.22 (40.0–50.0) | 7 |", text)
        self.assertNotIn("preflight", text)

    def test_runs_are_merged(self):
        other = {**self.RESULT, "samples": {"get1k": {"nginx": [{"cpu_us": 20}]}}, "calls": {}}
        first = {**self.RESULT, "samples": {"get1k": {"nginx": [{"cpu_us": 22}]}}}
        merged = tables.merge([first, other])
        self.assertEqual(tables.median(merged, "get1k", "nginx", "cpu_us"), 21)


if __name__ == "__main__":
    unittest.main()
