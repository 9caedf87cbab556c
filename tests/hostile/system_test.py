"""What a system can do to a run (SY): no permission, folders that vanish, limits of the process, closed
streams, signals at any time, an unlucky environment. What ends early goes on to the same bits."""
import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time

from harness import IO, LOCKED, OK, PERMISSION, PROGRAM, SANITIZED, Skipped, case, main, scenario, support
from runs import (OS_LIMIT, OUT_OF_MEMORY, PREEMPTED, RUN, end, expect, files, final_state, intact, prepare, start,
                  steps, train, trained)


def wait_for(condition, process=None, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        assert process is None or process.poll() is None, end(process).stderr
        time.sleep(0.01)


def is_stopped(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


@contextlib.contextmanager
def stopped_at(folder, place, *overrides):
    """A training that has stopped itself (SIGSTOP) at a named place."""
    name, _, passage = place.partition("@")
    process = start(folder, [PROGRAM, "train", "run.yaml", *overrides],
                    environment={"MHA2MLA_FAILPOINT": f"{name}=stop@{passage or 1}"})
    try:
        wait_for(lambda: is_stopped(process), process)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def completes(folder, *parts):
    expect(train(folder), OK, *parts)
    assert final_state(folder / RUN / "checkpoints") == intact(), "the run ended with other bits"


@contextlib.contextmanager
def disk(folder):
    """A small file system on folder/runs."""
    (folder / "runs").mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder / "runs"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder / "runs"], check=True)
    finally:
        subprocess.run(["umount", "-l", folder / "runs"], check=True)


@scenario("SY02 limit_of_the_file_size")
def _(folder):
    """SIGXFSZ would kill; ignored, it is a write that fails, and the next start goes on."""
    prepare(folder)
    with stopped_at(folder, "step.begin@4") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
        process.send_signal(signal.SIGCONT)
        expect(end(process), IO, "checkpoints/", "File too large", "free disk space and run the same")
    assert steps(folder / RUN / "checkpoints") in ([], [2])  # that of step 2 was begun before
    completes(folder)


@scenario("SY04 read_only_file_system")
def _(folder):
    prepare(folder)
    with disk(folder) as remount:
        remount("ro")
        expect(train(folder), PERMISSION, "runs: error: write into: expected", "Read-only file system")
        remount("rw")
        expect(train(folder, "tokens.train_steps=4", "optimizer.learning_rate_scheduler.lr_decay_steps=6"), OK)
        before = files(folder / "runs")
        remount("ro")
        expect(train(folder), PERMISSION, "Read-only file system")
        assert files(folder / "runs") == before


def run_folder_removed(folder, place):
    prepare(folder)
    with stopped_at(folder, place) as process:
        shutil.rmtree(folder / "runs")
        process.send_signal(signal.SIGCONT)
        expect(end(process), IO, "runs/test/bits: error: run folder: expected the folder that this run started in, got none")
    assert not (folder / "runs").exists(), "nothing comes to life again"
    completes(folder)


@scenario("SY05 run_folder_removed")
def _(folder):
    run_folder_removed(folder, "step.begin@5")


@scenario("SY05 run_folder_removed_during_a_save")
def _(folder):
    run_folder_removed(folder, "checkpoint.before_write@2")  # the first writes the converted model


@scenario("SY05 run_folder_renamed")
def _(folder):
    prepare(folder)
    with stopped_at(folder, "step.begin@5") as process:
        (folder / "runs").rename(folder / "elsewhere")
        process.send_signal(signal.SIGCONT)
        expect(end(process), IO, "run folder: expected the folder that this run started in, got none", "put it back")
    assert not (folder / "runs").exists(), "nothing comes to life again"
    (folder / "elsewhere").rename(folder / "runs")
    completes(folder, "resumed from")


@scenario("SY05 run_folder_replaced")
def _(folder):
    prepare(folder)
    other = folder / "runs/test/bits"
    with stopped_at(folder, "step.begin@5") as process:
        (folder / "runs").rename(folder / "elsewhere")
        other.mkdir(parents=True)
        (other / "status.json").write_text("of another run")
        process.send_signal(signal.SIGCONT)
        expect(end(process), IO, "run folder: expected the folder that this run started in, got another one")
    assert [p.name for p in other.iterdir()] == ["status.json"], list(other.iterdir())
    assert (other / "status.json").read_text() == "of another run"


@case("SY06 more_than_the_memory_of_the_machine", OUT_OF_MEMORY, "error: memory: expected", "on 65536 ranks", "weights",
      "gradients", "optimizer", "activations", "available", "fewer ranks")
def _(folder):
    prepare(folder)
    support.write_shard(folder / "train.ds", count=200000)
    return ["validate", "run.yaml", "--ranks", "65536", "tokens.sequence_length=2", "tokens.micro_batch_size=1",
            "tokens.global_batch_size=65536", "parallelism.reduction_shards=65536"]


@scenario("SY08 two_runs_in_one_folder")
def _(folder):
    prepare(folder)
    with stopped_at(folder, "run.after_load") as process:
        for change in ([], ["model.init_from=/nowhere"]):  # whose is the folder comes before all else
            expect(train(folder, *change), LOCKED, "run.lock: error: run: expected no other process in this run",
                   f"pid {process.pid}")
        process.send_signal(signal.SIGCONT)
        expect(end(process), OK)
    assert final_state(folder / RUN / "checkpoints") == intact()


def signal_at(place, number):
    @scenario(f"SY10 {signal.Signals(number).name}_at_{place}")
    def _(folder):
        prepare(folder)
        with stopped_at(folder, place) as process:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            expect_preempted(folder, end(process), number)
        completes(folder)


def expect_preempted(folder, done, number):
    assert done.returncode == PREEMPTED, f"exit code {done.returncode}\n{done.stderr}"
    status = json.loads((folder / RUN / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("preempted", PREEMPTED), status
    assert status["reason"] == signal.Signals(number).name, status


for stop_place in ["run.after_lock", "run.after_load", "validation.begin", "step.begin@3", "checkpoint.during_write",
                   "checkpoint.before_rename", "metrics.append@2"]:
    signal_at(stop_place, signal.SIGTERM)
signal_at("step.begin@2", signal.SIGHUP)
signal_at("checkpoint.after_manifest", signal.SIGUSR1)


def limited(name, code, limit, value, *parts):
    @scenario(f"SY11 {name}")
    def _(folder):
        if SANITIZED and limit == resource.RLIMIT_AS:
            raise Skipped("the sanitizer reserves terabytes of addresses")
        prepare(folder)
        done = train(folder, preexec_fn=lambda: resource.setrlimit(limit, (value, value)))
        expect(done, code, *parts)
        if code == OK:
            assert final_state(folder / RUN / "checkpoints") == intact()
        else:
            assert not (folder / "runs").exists()


limited("64_open_files_are_enough", OK, resource.RLIMIT_NOFILE, 64)
limited("16_open_files", OS_LIMIT, resource.RLIMIT_NOFILE, 16, "open files: expected at least 64, got a limit of 16",
        "ulimit -n")
limited("stack_of_64_kib", OS_LIMIT, resource.RLIMIT_STACK, 1 << 16, "stack: expected at least 262144 bytes",
        "ulimit -s")
limited("stack_of_256_kib_is_enough", OK, resource.RLIMIT_STACK, 1 << 18)
limited("address_space_of_500_mb", OUT_OF_MEMORY, resource.RLIMIT_AS, 500 * 10**6,
        "address space: expected 512.0 MiB beside the libraries", "ulimit -v")
limited("address_space_of_2_gib_is_enough", OK, resource.RLIMIT_AS, 1 << 31)


def trains_with(name, environment=None, **options):
    @scenario(name)
    def _(folder):
        prepare(folder)
        done = train(folder, environment=environment, **options)
        assert done.returncode == OK, done.stderr
        assert final_state(folder / RUN / "checkpoints") == intact(), "the run ended with other bits"
        assert sorted(path.name for path in (folder / RUN).iterdir() if path.suffix in (".json", ".jsonl")) == [
            "metrics.jsonl", "result.json", "status.json"]


trains_with("SY11 no_folder_for_temporary_files", {"TMPDIR": "/nonexistent"})
trains_with("SY13 locale_with_a_decimal_comma", {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"})
trains_with("SY14 stdout_closed", preexec_fn=lambda: os.close(1))
trains_with("SY14 stderr_closed", preexec_fn=lambda: os.close(2))
trains_with("SY14 all_closed", preexec_fn=lambda: os.closerange(0, 3))
trains_with("SY16 variables_of_hdf5", {"HDF5_USE_FILE_LOCKING": "TRUE", "HDF5_PLUGIN_PATH": "/tmp", "HDF5_PLUGIN_PRELOAD": "x",
                                       "HDF5_DRIVER": "nonsense", "HDF5_DISABLE_VERSION_CHECK": "1"})
trains_with("SY16 variables_of_threads", {"OMP_NUM_THREADS": "rubbish", "OMP_DYNAMIC": "true", "OMP_STACKSIZE": "1k",
                                          "OPENBLAS_NUM_THREADS": "99", "GOMP_CPU_AFFINITY": "900"})


@scenario("SY14 standard_streams_on_a_full_disk")
def _(folder):
    prepare(folder)
    with open("/dev/full", "w") as full:
        done = train(folder, stdout=full, stderr=full)
    assert done.returncode == OK
    assert final_state(folder / RUN / "checkpoints") == intact()


@scenario("SY14 reader_of_the_log_is_gone")
def _(folder):
    prepare(folder)
    process = start(folder, [PROGRAM, "train", "run.yaml"])
    process.stdout.close(), process.stderr.close()
    assert process.wait(60) == OK
    assert final_state(folder / RUN / "checkpoints") == intact()


@scenario("SY14 json_that_cannot_be_written")
def _(folder):
    """The result is the purpose of --json; the run itself is complete."""
    prepare(folder)
    expect(train(folder, "--json", preexec_fn=lambda: os.close(1)), IO, "standard output: error: write")
    assert final_state(folder / RUN / "checkpoints") == intact()


@scenario("SY15 whole_process_suspended")
def _(folder):
    """Much longer than a step may take: nobody could have made progress, so nobody hangs."""
    prepare(folder)
    with stopped_at(folder, "step.begin@3", "watchdog.step_seconds=2") as process:
        time.sleep(8)
        process.send_signal(signal.SIGCONT)
        expect(end(process), OK)
    assert steps(folder / RUN / "checkpoints") == [2, 4, 6]


@scenario("SY16 env_names_them")
def _(folder):
    done = end(start(folder, [PROGRAM, "env"], environment={"HDF5_USE_FILE_LOCKING": "TRUE", "OMPI_MCA_coll": "^tuned"}))
    expect(done, OK, "HDF5_USE_FILE_LOCKING", "OMPI_MCA_coll")


if __name__ == "__main__":
    main()
