"""Tests how `benches/instructions` compares counts with budgets, without counting."""

import contextlib
import importlib.machinery
import importlib.util
import io
import pathlib
import tempfile
import unittest
from unittest import mock

SCRIPT = str(pathlib.Path(__file__).with_name("instructions"))
LOADER = importlib.machinery.SourceFileLoader("instructions", SCRIPT)
instructions = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions", LOADER))
LOADER.exec_module(instructions)

ROW = "{:8}{:24}{:>8}\n".format
BUDGET = "# What it is.\n\n" + ROW("decide", "preflight", 1000) + ROW("route", "host-of-1", 500)


class Budget(unittest.TestCase):
    def run_with(self, counts, *arguments):
        """The exit code, the output, and the budget afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            budget = pathlib.Path(folder, "budget")
            budget.write_text(BUDGET)
            printed = io.StringIO()
            with mock.patch.multiple(instructions, BUDGET=budget, install_valgrind=lambda: None,
                                     count_all=lambda rows: counts), \
                    mock.patch("sys.argv", ["instructions", *arguments]), contextlib.redirect_stdout(printed):
                code = instructions.main()
            return code, printed.getvalue(), budget.read_text()

    def test_a_count_above_its_budget_fails(self):
        code, printed, _ = self.run_with([1041, 500])
        self.assertEqual(code, 1)
        self.assertIn("ABOVE", printed.splitlines()[0])
        self.assertNotIn("ABOVE", printed.splitlines()[1])

    def test_a_small_change_by_the_compiler_passes(self):
        code, printed, _ = self.run_with([1040, 440])
        self.assertEqual(code, 0)
        self.assertIn("lower the budget", printed.splitlines()[1])

    def test_a_count_that_is_rarely_high_passes(self):
        counts = iter([1100, 1041, 1002, 999])
        self.assertEqual(instructions.usual(lambda: next(counts), 1000), 1002)

    def test_a_count_that_is_always_high_fails(self):
        self.assertEqual(instructions.usual(lambda: 1041, 1000), 1041)

    def test_a_new_budget_keeps_the_comments(self):
        code, _, written = self.run_with([2000, 7], "--write")
        self.assertEqual(code, 0)
        self.assertEqual(written, BUDGET.replace("1000", "2000").replace("500", "  7"))


if __name__ == "__main__":
    unittest.main()
