"""What kvlab.load_* make of folders and stores. KVLAB_PROGRAM names the program that writes stores;
without it those tests are left out."""
import json
import math
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import kvlab

NASTY = ["<b>", "a|b", "line\nbreak", "=1+1", "{}", '"q"', "%s", "x'); DROP TABLE runs;--", "\ttab",
         "ünï", "null", "-1x"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))


def metric(arm, name, value, unit="ms", **group):
    return {"arm": arm, "metric": name, "value": value, "unit": unit, "n": 3, "ci_low": None,
            "ci_high": None, "better": "lower", "group": group, "timed": unit == "ms"}


def write_run(folder, metrics=(), samples=(), status="ok", overrides=(), checks=()):
    write(folder / "run.json", json.dumps(
        {"schema_version": 1, "experiment": "generation_benchmark", "status": status,
         "start": "2026-01-02T03:04:05Z", "stop": None, "argv": ["kvlab"], "seed": 1,
         "exit_code": 0}))
    write(folder / "env.json", "{}")
    write(folder / "summary.json", json.dumps(
        {"metrics": list(metrics), "checks": list(checks), "failures": []}))
    write(folder / "config/resolved.yaml", "schema: kvlab/1\n")
    write(folder / "config/overrides.yaml", json.dumps(list(overrides)))
    write(folder / "samples.jsonl", "".join(json.dumps(line) + "\n" for line in samples))


def write_sweep(folder):
    plan = [{"index": 0, "name": "a", "overrides": ["x.len=16", "+x.mode=fast"], "hash": "a" * 16,
             "status": "planned"},
            {"index": 1, "name": "b", "overrides": ["x.len=32", "x.mode=slow"], "hash": "b" * 16,
             "status": "planned", "extra": 1},
            {"index": 2, "name": "c", "overrides": [], "hash": "c" * 16, "status": "skipped",
             "reasons": ["ring keeps no shared rows"]}]
    write(folder / "plan.jsonl", "".join(json.dumps(line) + "\n" for line in plan))
    for index, value in ((0, 1.5), (1, 2.5)):
        write_run(folder / f"cases/{index:04}-{'ab'[index] * 8}",
                  [metric("paged", "tpot", value, batch="1"),
                   metric("paged", "kl", None, "nats", batch="2")],
                  [{"arm": "paged", "rep": 0, "token_ns": [1, 2 + index]}],
                  checks=[{"arm": "paged", "check": "equality", "passed": True, "detail": "x"}])


class Loading(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def test_a_run_is_one_row_per_arm_metric_and_group(self):
        write_run(self.folder / "run", [metric("paged", "tpot", 1.5, batch="1"),
                                        metric("paged", "tpot", 2.5, batch="2"),
                                        metric("ring", "payload", 4096, "B")])
        frame = kvlab.load_runs(self.folder / "run")
        self.assertEqual(list(frame["run"]), ["run"] * 3)
        self.assertEqual(list(frame["arm"]), ["paged", "paged", "ring"])
        self.assertEqual(list(frame["value"]), [1.5, 2.5, 4096])
        self.assertEqual(list(frame["timed"]), [True, True, False])
        self.assertEqual(list(frame["group.batch"])[:2], [1, 2])
        self.assertTrue(math.isnan(frame["group.batch"][2]))
        self.assertTrue(frame["case_index"].isna().all())

    def test_a_sweep_has_its_overrides_as_columns(self):
        write_sweep(self.folder)
        frame = kvlab.load_runs(str(self.folder))
        self.assertEqual(list(frame["case_index"]), [0, 0, 1, 1])
        self.assertEqual(list(frame["config.x.len"]), [16, 16, 32, 32])
        self.assertEqual(list(frame["config.x.mode"]), ["fast", "fast", "slow", "slow"])
        self.assertTrue(math.isnan(frame["value"][1]))
        tpot = frame[frame.metric == "tpot"].set_index("config.x.len")["value"]
        self.assertEqual(tpot[32], 2.5)

    def test_cases_tell_what_was_skipped_and_why(self):
        write_sweep(self.folder)
        cases = kvlab.load_cases(self.folder)
        self.assertEqual(list(cases["skipped"]), [False, False, True])
        self.assertEqual(cases["reasons"][2], ["ring keeps no shared rows"])

    def test_samples_keep_their_lists(self):
        write_sweep(self.folder)
        samples = kvlab.load_samples(self.folder)
        self.assertEqual(list(samples["token_ns"]), [[1, 2], [1, 3]])
        self.assertEqual(list(samples["line"]), [1, 1])
        self.assertEqual(list(samples["run"]), ["0000-aaaaaaaa", "0001-bbbbbbbb"])

    def test_checks_are_rows(self):
        write_sweep(self.folder)
        self.assertEqual(list(kvlab.load_checks(self.folder)["passed"]), [True, True])

    def test_a_folder_above_holds_all_runs(self):
        write_run(self.folder / "kind/one", [metric("a", "m", 1)])
        write_sweep(self.folder / "kind/two")
        os.symlink(self.folder, self.folder / "kind/loop")
        names = kvlab.load_runs(self.folder)["run"].unique()
        self.assertEqual(list(names), ["kind/one", "kind/two/0000-aaaaaaaa", "kind/two/0001-bbbbbbbb"])

    def test_nasty_names_come_out_as_they_went_in(self):
        write_run(self.folder, [metric(name, name, 1, name, **{name: name}) for name in NASTY],
                  [{"arm": name, "run": name} for name in NASTY])
        frame = kvlab.load_runs(self.folder)
        self.assertEqual(list(frame["arm"]), NASTY)
        self.assertEqual(list(frame["unit"]), NASTY)
        for row, name in enumerate(NASTY):
            self.assertEqual(frame[f"group.{name}"][row], name)
        self.assertEqual(list(kvlab.load_samples(self.folder)["sample.run"]), NASTY)

    def test_bytes_that_are_not_utf8_are_replaced(self):
        write_run(self.folder, [metric("BYTES", "m", 1)])
        path = self.folder / "summary.json"
        write(path, path.read_bytes().replace(b"BYTES", b"a\xffb"))
        self.assertEqual(kvlab.load_runs(self.folder)["arm"][0], "a\ufffdb")

    def test_damage_is_named(self):
        write_run(self.folder, samples=[{"arm": "a"}])
        cases = [("samples.jsonl", '{"arm"', "line 1: the line does not end"),
                 ("samples.jsonl", "{\n", "line 1: not JSON"),
                 ("summary.json", '{"metrics"', "summary.json: not JSON"),
                 ("summary.json", "[]", "metrics or checks are missing"),
                 ("run.json", '{"schema_version": 2}', "schema_version must be 1")]
        for name, text, message in cases:
            path = self.folder / name
            before = path.read_bytes()
            write(path, text)
            with self.subTest(name=name, text=text):
                with self.assertRaisesRegex(kvlab.ResultError, message):
                    kvlab.load_runs(self.folder)
            write(path, before)
        with self.assertRaisesRegex(kvlab.ResultError, "no such folder"):
            kvlab.load_runs(self.folder / "nowhere")
        (self.folder / "config/empty").mkdir()
        with self.assertRaisesRegex(kvlab.ResultError, "holds no run"):
            kvlab.load_runs(self.folder / "config/empty")

    def test_a_killed_run_gives_what_it_has(self):
        write_run(self.folder, samples=[{"arm": "a"}], status="running")
        (self.folder / "summary.json").unlink()
        path = self.folder / "samples.jsonl"
        write(path, path.read_bytes() + b'{"ar')
        self.assertEqual(list(kvlab.load_samples(self.folder)["arm"]), ["a"])
        self.assertEqual(len(kvlab.load_runs(self.folder)), 0)
        self.assertIn("value", kvlab.load_runs(self.folder).columns)


@unittest.skipUnless("KVLAB_PROGRAM" in os.environ, "needs KVLAB_PROGRAM")
class Stores(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)

    def export(self, source):
        store = self.folder / "results.sqlite"
        subprocess.run([os.environ["KVLAB_PROGRAM"], "export", source, "--to", "sqlite", "--output",
                        store], check=True, capture_output=True)
        return store

    def test_a_store_gives_the_same_frames_as_its_folder(self):
        import pandas

        source = self.folder / "sweep"
        write_sweep(source)
        store = self.export(source)
        for load in (kvlab.load_runs, kvlab.load_samples, kvlab.load_checks, kvlab.load_cases):
            with self.subTest(load=load.__name__):
                frame = load(source)
                self.assertGreater(len(frame), 0)
                pandas.testing.assert_frame_equal(load(store), frame)

    def test_nasty_names_survive_the_store(self):
        import pandas

        source = self.folder / "run"
        write_run(source, [metric(name, name, 1, name, **{name: name}) for name in NASTY],
                  [{"arm": name, "text": name} for name in NASTY])
        store = self.export(source)
        pandas.testing.assert_frame_equal(kvlab.load_runs(store), kvlab.load_runs(source))
        pandas.testing.assert_frame_equal(kvlab.load_samples(store), kvlab.load_samples(source))

    def test_another_file_is_refused(self):
        write(self.folder / "other.sqlite", b"")
        with self.assertRaisesRegex(kvlab.ResultError, "version 2, got 0"):
            kvlab.load_runs(self.folder / "other.sqlite")
        write(self.folder / "text.sqlite", b"not a database, but long enough to be looked at" * 40)
        with self.assertRaisesRegex(kvlab.ResultError, "not a database"):
            kvlab.load_runs(self.folder / "text.sqlite")


if __name__ == "__main__":
    unittest.main()
