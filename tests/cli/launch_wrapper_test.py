#!/usr/bin/env python3
"""scripts/mha2mla-run: signals become checkpoints, what can be restarted is, the exit code is the reason.

Usage: launch_wrapper_test.py MHA2MLA_BINARY SOURCE_DIR
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import support

PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
WRAPPER = SOURCE / "scripts/mha2mla-run"
LONG = "tokens.train_steps=100000"
EXEC = 'shift 2; exec "$@"'  # the least that an mpirun of one rank can be


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class LaunchWrapper(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        shard = support.write_shard(self.folder / "train.ds")
        self.config = support.write_config(self.folder / "config.yaml", SOURCE, shard, self.folder / "runs")
        self.run_folder = self.folder / "runs/test/bits"

    def start(self, *arguments, ranks=1, environment=None):
        command = [WRAPPER, "-np", ranks, "--program", PROGRAM, "--backoff", "0", *arguments]
        # None removes a variable.
        variables = dict(support.environment(1), **(environment or {}))
        process = subprocess.Popen([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env={name: value for name, value in variables.items() if value is not None})
        self.addCleanup(process.kill)
        return process

    def end(self, process, timeout=60):
        output, errors = process.communicate(timeout=timeout)
        return process.returncode, output, errors

    def status(self):
        try:
            return json.loads((self.run_folder / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def wait_for(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        self.fail("what the test waits for did not happen")

    def wait_until_training(self, step=4):
        self.wait_for(lambda: self.status().get("state") == "training" and self.checkpoints() >= [step])

    def checkpoints(self):
        return sorted(int(p.name[5:]) for p in (self.run_folder / "checkpoints").glob("step-*"))

    def ranks(self):
        """Processes of this test's program."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].decode() == PROGRAM and str(self.config).encode() in words:
                found.append(int(entry.parent.name))
        return found

    def test_a_finished_run_is_0(self):
        code, output, errors = self.end(self.start(self.config, "--json", ranks=2))
        self.assertEqual(code, 0, errors)
        self.assertEqual(json.loads(output)["steps"], 6)
        self.assertEqual(self.status()["state"], "done")
        if os.getuid() != 0:
            self.assertNotIn("AS_ROOT", errors)

    def test_wrong_arguments_start_nothing(self):
        for arguments, word in ((["--np", "2"], "unknown option"), (["--backoff"], "a value is missing"),
                                (["-np", "0"], "at least 1"), (["-np", "two"], "whole number"),
                                (["--backoff", "0x8"], "whole number"), (["--backoff", "1.5"], "whole number"),
                                ([self.config, "--resume"], "--resume: a value is missing"),
                                ([self.config, "-np", "2"], "unknown option \"-np\" after"), ([], "got nothing")):
            process = subprocess.run([WRAPPER, "--program", PROGRAM, *arguments], capture_output=True, text=True)
            self.assertEqual(process.returncode, 64)
            self.assertIn(word, process.stderr)
        code, _, errors = self.end(self.start(self.config, "tokens.train_stepz=3"))
        self.assertEqual(code, 78)
        self.assertIn("train_stepz", errors)
        self.assertFalse(self.run_folder.exists())

    def test_a_refused_run_is_not_restarted(self):
        (self.folder / "train.ds").write_bytes(b"x")
        code, _, errors = self.end(self.start(self.config))
        self.assertEqual(code, 65, errors)
        self.assertNotIn("restart", errors)

    def test_term_saves_and_is_not_restarted(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            process = self.start(self.config, LONG, ranks=2)
            before = (self.checkpoints() or [0])[-1]
            self.wait_until_training(before + 2)
            process.send_signal(number)
            code, _, errors = self.end(process)
            self.assertEqual(code, 75, errors)
            status = self.status()
            self.assertEqual((status["state"], status["exit_code"]), ("preempted", 75))
            self.assertEqual(status["step"], self.checkpoints()[-1], "every step done is saved")
            self.assertNotIn("restart", errors)
            self.assertEqual(self.ranks(), [])

    def test_user_signal_2_saves_and_goes_on(self):
        process = self.start(self.config, LONG, "checkpoints.checkpoint_interval=1000000")
        self.wait_for(lambda: self.status().get("state") == "training")
        process.send_signal(signal.SIGUSR2)
        self.wait_for(self.checkpoints)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 75)

    def test_the_second_interrupt_ends_at_once(self):
        process = self.start(self.config, LONG, ranks=2,
                             environment={"MHA2MLA_FAILPOINT": "step.end=sleep:60000@4"})
        self.wait_for(lambda: self.status().get("step", 0) >= 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(process)[0], 130)
        self.assertLess(time.monotonic() - start, 5)
        self.wait_for(lambda: not self.ranks(), 5)

    def test_a_killed_rank_is_restarted_and_the_run_ends_well(self):
        # Rank 1 dies before step 6; that of step 2 is durable by then, so the second process has fewer to do.
        code, _, errors = self.end(self.start(self.config, ranks=2, environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill@6", "MHA2MLA_FAILPOINT_RANK": "1"}))
        self.assertEqual(code, 0, errors)
        self.assertIn("ended with 137", errors)
        self.assertIn("restart 1 of 5", errors)
        self.assertEqual(self.checkpoints()[-1], 6)

    def test_restarts_without_progress_have_an_end(self):
        code, _, errors = self.end(self.start("--max-restarts", "2", self.config, environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill"}))
        self.assertEqual(code, 137, errors)
        self.assertEqual(errors.count(": restart "), 2)
        self.assertIn("2 in a row without a new checkpoint", errors)

    def test_max_time_is_restarted_and_a_trigger_file_is_not(self):
        process = self.start(self.config, LONG, "general.max_time=1s")
        self.wait_for(lambda: self.status().get("reason") == "max_time")
        first = self.checkpoints()[-1]
        self.wait_for(lambda: self.status().get("state") == "training" and self.checkpoints()[-1] > first)
        (self.run_folder / "STOP").touch()
        code, _, errors = self.end(process)
        self.assertEqual(code, 75, errors)
        self.assertIn("reason max_time", errors)
        self.assertIn("reason trigger file STOP", errors)
        self.assertFalse((self.run_folder / "STOP").exists())

    def fake_program(self, train):
        """A program whose `train` is a piece of bash: it has the attempt's number $n, and writes status.json."""
        program = self.folder / "program"
        program.write_text(f"""#!/bin/bash
run={self.run_folder}
if [ "$1" = config ]; then mkdir -p "$run/checkpoints"; echo "$run"; exit; fi
echo "$*" >>"$run/starts"
n=$(wc -l <"$run/starts")
status() {{ printf '%s' "$1" >"$run/new" && mv "$run/new" "$run/status.json"; }}
{train}
""")
        program.chmod(0o755)
        return program

    def tool(self, name, text):
        """The environment in which `name` is a piece of bash."""
        folder = self.folder / "tools"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    def run_with_signal_at(self, number):
        """TERM at the wrapper's command `number`, counted from `before=` on: the command, code, errors and seconds."""
        mark, hook = self.folder / "mark", self.folder / "hook"
        mark.unlink(missing_ok=True)
        # Traps run between commands; that of DEBUG runs before each one, so the signal comes at a known place.
        hook.write_text(f"""
[ "${{0##*/}}" = mha2mla-run ] || return 0
unset BASH_ENV
set -T
count=-1
at_command() {{
  case $BASHPID:$count:$1 in $$:-1:before=*) count=0 ;; *:-1:*) return ;; esac
  [ "$BASHPID" = $$ ] && [ $((count += 1)) = {number} ] || return
  echo "$1" >"{mark}"
  kill -TERM $$
}}
trap 'at_command "$BASH_COMMAND"' DEBUG
""")
        environment = self.tool("mpirun", f"""
echo started >"{self.folder}/started"
trap : USR1 # as mpirun has it: without ranks there is nobody to forward to
sleep 0.2
trap 'exit 75' USR1
for _ in {{1..200}}; do sleep 0.05; done
exit 99""")
        start = time.monotonic()
        process = self.start("--program", self.fake_program(""), self.config,
                             environment=dict(environment, BASH_ENV=str(hook)))
        code, _, errors = self.end(process)
        return mark.read_text().strip(), code, errors, time.monotonic() - start

    def test_a_stop_is_not_lost_wherever_it_comes(self):
        commands = [""]
        while not commands[-1].startswith("wait "):
            (self.folder / "started").unlink(missing_ok=True)
            command, code, errors, seconds = self.run_with_signal_at(len(commands))
            self.assertEqual(code, 75, f"TERM at {command}: {errors}")
            self.assertLess(seconds, 9, f"TERM at {command}: {errors}")
            self.assertIn("TERM: saving a checkpoint, then stopping", errors)
            self.assertNotIn(": restart ", errors)
            if len(commands) == 1:
                self.assertFalse((self.folder / "started").exists(), "a stop before the start starts nothing")
            commands.append(command)
            self.assertLess(len(commands), 30, commands)
        self.assertIn("job=$!", commands)

    def test_a_stop_cuts_the_pause_short(self):
        program = self.fake_program("exit 86")
        # 08 is no number of bash's arithmetic.
        process = self.start("--backoff", "08", "--program", program, self.config,
                             environment=self.tool("mpirun", EXEC))
        errors = ""
        while "restart 1 of 5 in 8 s" not in errors:
            line = process.stderr.readline()
            self.assertTrue(line, errors)
            errors += line
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code, _, errors = self.end(process)
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(code, 75, errors)
        self.assertIn("TERM: saving a checkpoint, then stopping", errors)
        self.assertNotIn("Terminated", errors)
        self.assertEqual(len((self.run_folder / "starts").read_text().splitlines()), 1)

    def start_into_pipe(self, *arguments, environment=None):
        """The process, and the end that a reader has of the pipe for all that it says."""
        read, write = os.pipe()
        process = subprocess.Popen([WRAPPER, *arguments], stdout=write, stderr=write,
                                   env=dict(support.environment(1), **(environment or {})))
        self.addCleanup(process.kill)
        os.close(write)
        return process, read

    def test_a_stop_gets_through_when_nobody_reads_the_output(self):
        # As `mha2mla-run ... 2>&1 | tee log`: Ctrl-C ends tee as well.
        process, read = self.start_into_pipe("-np", "2", "--program", PROGRAM, self.config, LONG)
        self.wait_until_training()
        os.close(read)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 75)
        status = self.status()
        self.assertEqual((status["state"], status["exit_code"]), ("preempted", 75))
        self.assertEqual(status["step"], self.checkpoints()[-1])
        self.assertEqual(self.ranks(), [])

    def test_a_run_goes_on_without_a_reader(self):
        program = self.fake_program(f"""
[ $n -gt 2 ] && exit 0
[ $n = 1 ] && {{ touch "$run/ready"; while [ ! -e "$run/go" ]; do sleep 0.05; done; exit 86; }}
echo a line && echo a line >&2 && exit 0 # fails if nobody reads
exit 65""")
        process, read = self.start_into_pipe("--program", program, "--backoff", "0", self.config,
                                             environment=self.tool("mpirun", EXEC))
        self.wait_for((self.run_folder / "ready").exists)
        os.close(read)
        (self.run_folder / "go").touch()
        self.assertEqual(process.wait(30), 0)

    def test_an_interrupt_as_the_job_ends_is_the_first(self):
        self.tool("mpirun", EXEC)
        environment = self.tool("pkill", f"""
[ -e "{self.folder}/once" ] || {{ touch "{self.folder}/once"; kill -INT $PPID; }}
exec {shutil.which("pkill")} "$@" """)
        code, _, errors = self.end(self.start("--program", self.fake_program("exit 86"), self.config,
                                              environment=environment))
        self.assertEqual(code, 86, errors)
        self.assertIn("INT: saving", errors)
        self.assertNotIn("second INT", errors)
        self.assertNotIn(": restart ", errors)

    def test_the_second_interrupt_ends_also_what_has_no_session_yet(self):
        environment = self.tool("setsid", f"""
trap '' TERM USR1
echo $$ >"{self.folder}/new" && mv "{self.folder}/new" "{self.folder}/job"
exec sleep 20""")
        process = self.start("--program", self.fake_program(""), self.config, environment=environment)
        self.wait_for((self.folder / "job").exists)
        job = int((self.folder / "job").read_text())
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(process, 10)[0], 130)
        self.assertFalse(is_alive(job))

    def test_user_signal_2_before_the_ranks_are_there_ends_nothing(self):
        self.tool("mpirun", EXEC)
        environment = self.tool("setsid", f"""
kill -USR2 $$
exec {shutil.which("setsid")} "$@" """)
        code, _, errors = self.end(self.start("--program", self.fake_program("exit 0"), self.config,
                                              environment=environment))
        self.assertEqual(code, 0, errors)

    def test_overrides_may_stand_anywhere(self):
        process = subprocess.run([PROGRAM, "train", "--help"], capture_output=True, text=True)
        options = re.findall(r"^  (?:-\w,)?(--[\w-]+)( \S+)?  ", process.stdout, re.MULTILINE)
        self.assertIn("--resume", [name for name, _ in options])
        self.assertIn(("--dry-run", ""), options)
        program = self.fake_program("")
        program.write_text(program.read_text().replace("; exit; fi", '; echo "$*" >>"$run/configs"; exit; fi'))
        environment = self.tool("mpirun", EXEC)
        for name, value in options:
            for words in ([name, "7"], [f"{name}=7"]) if value else ([name],):
                code, _, errors = self.end(self.start("--program", program, self.config, "a.b=1", *words,
                                                      "general.run=b", environment=environment))
                self.assertEqual(code, 0, errors)
                self.assertEqual((self.run_folder / "configs").read_text().splitlines()[-1],
                                 f"config {self.config} a.b=1 general.run=b --run-folder")
                self.assertEqual((self.run_folder / "starts").read_text().splitlines()[-1],
                                 f"train {self.config} a.b=1 {' '.join(words)} general.run=b")

    def test_an_override_after_an_option_names_the_run(self):
        code, _, errors = self.end(self.start(self.config, "--resume", "auto", "general.run=other", environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill@6"}))
        self.assertEqual(code, 0, errors)
        self.assertIn("ended with 137, state training", errors)
        self.assertIn("restart 1 of 5", errors)
        self.assertTrue((self.folder / "runs/test/other/checkpoints/step-000000006").exists())
        self.assertFalse(self.run_folder.exists())

    def test_cores_are_not_threads(self):
        self.tool("nproc", 'echo "${OMP_NUM_THREADS:-5}"')
        self.tool("lscpu", "printf '# Socket,Core\\n0,0\\n0,0\\n0,1\\n0,1\\n0,2\\n0,2\\n'")
        environment = self.tool("mpirun", 'echo "oversubscribe=$OMPI_MCA_rmaps_base_oversubscribe"')
        for name in ("OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_mpi_yield_when_idle"):
            environment[name] = None
        for ranks, openmp, more in ((3, "1", ""), (3, "9", ""), (4, "9", "1"), (4, "1", "1")):
            process = self.start("--program", self.fake_program(""), self.config, ranks=ranks,
                                 environment=dict(environment, OMP_NUM_THREADS=openmp))
            code, output, errors = self.end(process)
            self.assertEqual((code, output), (0, f"oversubscribe={more}\n"), errors)

    def test_options_of_mpirun_are_words(self):
        code, output, errors = self.end(self.start(
            "--mpirun", "-x A=b\n -x  C=*", "--program", self.fake_program(""), self.config,
            environment=self.tool("mpirun", "printf '%s|' \"$@\"")))
        self.assertEqual(code, 0, errors)
        self.assertEqual(output, f"-np|1|-x|A=b|-x|C=*|{self.folder}/program|train|{self.config}|")

    def test_every_reason_of_a_stop_counts(self):
        program = self.fake_program("""
status '{"state": "preempted", "exit_code": 75, "reason": "SIGTERM, trigger file STOP", "step": 3}'
exit 75""")
        code, _, errors = self.end(self.start("--program", program, self.config))
        self.assertEqual(code, 75, errors)
        self.assertIn("reason SIGTERM, trigger file STOP", errors)
        self.assertNotIn("restart", errors)

    def test_resume_is_for_the_first_start_alone(self):
        old = self.run_folder / "checkpoints/step-000000002"
        # Attempt 1 dies before it has set the run back, 2 before a checkpoint of its own, 3 after it.
        train = f"""
[ $n = 1 ] && exit 86
[ $n = 2 ] && {{ status '{{"state": "training", "checkpoint": "{old}"}}'; exit 86; }}
[ $n = 3 ] && {{ mkdir "$run/checkpoints/step-000000004"
  status '{{"state": "training", "checkpoint": "{old.parent}/step-000000004"}}'; exit 86; }}
status '{{"state": "done", "exit_code": 0}}'"""
        for spelling in (["--resume", old], [f"--resume={old}"]):
            program = self.fake_program(train)
            self.run_folder.mkdir(parents=True, exist_ok=True)
            (self.run_folder / "status.json").write_text(
                json.dumps({"state": "done", "checkpoint": str(old.parent / "step-000000006")}))
            code, _, errors = self.end(self.start("--program", program, self.config, *spelling, "--json"))
            self.assertEqual(code, 0, errors)
            starts = (self.run_folder / "starts").read_text().splitlines()
            self.assertEqual([str(old) in line for line in starts], [True, True, True, False], starts)
            self.assertEqual(starts[3], f"train {self.config} --json")
            shutil.rmtree(self.run_folder)

    def test_ranks_that_outlive_mpirun_are_gone_before_the_restart(self):
        program = self.fake_program("""
[ $n = 1 ] && { echo $$ >"$run/first"; exec sleep 60; }
grep -q "^State:[[:space:]]*[^ZX[:space:]]" "/proc/$(cat "$run/first")/status" && exit 65 # a zombie is gone
exit 0""")
        environment = self.tool("mpirun", f"""
shift 2
"$@" &
[ -e "{self.run_folder}/first" ] && {{ wait $!; exit; }}
while [ ! -s "{self.run_folder}/first" ]; do sleep 0.05; done
kill -KILL $$""")
        code, _, errors = self.end(self.start("--program", program, self.config, environment=environment))
        self.assertEqual(code, 0, errors)
        self.assertIn("ended with 137", errors)
        self.assertEqual(errors.count(": restart "), 1)

    def test_a_restart_without_resume_has_nothing_to_take_back(self):
        program = self.fake_program("""
[ $n = 1 ] || exit 0
status '{"state": "training", "checkpoint": "/there/step-000000002"}'
exit 86""")
        code, _, errors = self.end(self.start("--program", program, self.config, environment=self.tool("mpirun", EXEC)))
        self.assertEqual(code, 0, errors)
        self.assertIn(": restart 1 of 5", errors)
        self.assertEqual([line for line in errors.splitlines() if not line.startswith("mha2mla-run: ")], [])

    def test_a_new_run_stays_the_run_that_it_became(self):
        code, _, errors = self.end(self.start(self.config, "--resume", "none", environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill@6"}))
        self.assertEqual(code, 0, errors)
        self.assertIn("restart 1 of 5", errors)
        self.assertEqual(self.checkpoints()[-1], 6)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
