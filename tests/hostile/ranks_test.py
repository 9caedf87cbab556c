"""Ranks that differ, fail alone or are too many (MP), and the numbers of a run on several of them (NU)."""
import shutil
import subprocess

from harness import BAD_CONFIG, MODEL, OK, PERMISSION, PROGRAM, Skipped, main, scenario, support
from runs import NUMERICAL, RUN, end, expect, final_state, intact, prepare, start, steps, train


def different(name, others, *parts):
    """Rank 0 trains as it should; rank 1 is started with other words or in another place."""
    @scenario(f"MP04 {name}")
    def _(folder):
        prepare(folder)
        first = [PROGRAM, "train", "run.yaml"]
        second = others(folder)
        launcher = support.mpirun(1)
        done = end(start(folder, [*launcher, *first, ":", "-np", "1", *second]))
        expect(done, BAD_CONFIG, *parts)
        assert done.stderr.count("error:") == 1, done.stderr
        assert "[rank 1 " in done.stderr, done.stderr
        assert not (folder / RUN / "checkpoints").exists() or not steps(folder / RUN / "checkpoints")


def with_words(*words):
    return lambda folder: [PROGRAM, *words]


def another_program(folder):
    program = folder / "mha2mla"
    program.write_bytes(PROGRAM.read_bytes() + b"\0")
    program.chmod(0o755)
    return [program, "train", "run.yaml"]


different("another_value", with_words("train", "run.yaml", "optimizer.clip_grad=0.5"),
          "run.yaml: error: configuration: expected clip_grad: 1, that of rank 0, got clip_grad: 0.5")
different("another_interval", with_words("train", "run.yaml", "checkpoints.checkpoint_interval=3"),
          "checkpoint_interval: 2, that of rank 0, got checkpoint_interval: 3")
different("no_conversion", with_words("train", "run.yaml", "mla=null"), "mla:, that of rank 0, got mla: null")
different("dry_run", with_words("train", "run.yaml", "--dry-run"), "--dry-run false, that of rank 0, got --dry-run true")
different("another_verb", with_words("env"), "mha2mla: error: verb: expected train, that of rank 0, got env")
different("help", with_words("--help"), "verb: expected train, that of rank 0, got --help")
different("another_program", another_program, "hash of the program: expected", "start all ranks with the same mha2mla")


def bind(folder, source, target, words):
    """The words of a process that sees `source` at the place of `target`, as if it were on another machine."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"no file can differ between ranks here: {done.stderr.strip()}")
    script = folder / "other_machine.sh"
    script.write_text(f'#!/bin/sh\nmount --bind {source} {target} && exec "$@"\n')
    script.chmod(0o755)
    return ["unshare", "--mount", script, *words]


def other_data(folder):
    support.write_shard(folder / "other.ds", seed=2)
    return bind(folder, folder / "other.ds", folder / "train.ds", [PROGRAM, "train", "run.yaml"])


def other_configuration(folder):
    text = (folder / "run.yaml").read_text()
    (folder / "other.yaml").write_text(text.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3"))
    return bind(folder, folder / "other.yaml", folder / "run.yaml", [PROGRAM, "train", "run.yaml"])


def other_model(folder):
    """Rank 0 reads the model of this folder too, so that its path is the same."""
    model = folder / "model"
    shutil.copytree(MODEL, model)
    config = folder / "run.yaml"
    config.write_text(config.read_text().replace(str(MODEL), "model"))
    weights = (model / "model.safetensors").read_bytes()
    (folder / "other.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    return bind(folder, folder / "other.safetensors", model / "model.safetensors", [PROGRAM, "train", "run.yaml"])


different("other_tokens", other_data, "data: expected training data", "the same files at the same path")
different("other_file_of_configuration", other_configuration, "learning_rate: 0.001, that of rank 0, got learning_rate: 0.002")
different("other_weights", other_model, "model: error: hash of the model: expected", "the same files at the same path")


@scenario("MP03 slow_rank")
def _(folder):
    """Nothing fails, and the bits are the same; no warning names the slow one."""
    prepare(folder)
    expect(train(folder, ranks=2, environment={"MHA2MLA_FAILPOINT": "step.begin=sleep:1000@3", "MHA2MLA_FAILPOINT_RANK": "1"}), OK)
    assert final_state(folder / RUN / "checkpoints") == intact()


@scenario("MP05 more_ranks_than_shards_of_the_gradient")
def _(folder):
    prepare(folder)
    expect(train(folder, "parallelism.reduction_shards=2", ranks=3), BAD_CONFIG,
           "parallelism.reduction_shards: expected", "ranks, 3, got 2", "at most 2 ranks")
    assert not (folder / "runs").exists()


@scenario("MP05 one_rank_under_mpirun")
def _(folder):
    prepare(folder)
    expect(train(folder, ranks=1), OK)
    assert final_state(folder / RUN / "checkpoints") == intact()


@scenario("MP05 fewer_samples_than_a_batch_of_all_ranks")
def _(folder):
    prepare(folder)
    support.write_shard(folder / "train.ds", count=40)
    done = train(folder, "validation.sets={}", ranks=2)
    expect(done, BAD_CONFIG, "samples of data stage", "expected at least one global batch of 8, got 2")
    assert not (folder / "runs").exists()


@scenario("MP06 only_rank_0_cannot_write")
def _(folder):
    """It alone writes: the others learn of it, and one message is printed."""
    prepare(folder)
    (folder / "runs").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder / "runs"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Skipped(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        expect(train(folder, ranks=3), PERMISSION, "runs: error: write into", "Read-only file system")
    finally:
        subprocess.run(["umount", "-l", folder / "runs"], check=True)


@scenario("NU01 loss_not_finite_on_two_ranks")
def _(folder):
    """A weight at the edge of float32: the step is refused before anything is changed or saved."""
    prepare(folder)
    model = folder / "model"
    shutil.copytree(MODEL, model)
    header, data = support.read_safetensors(model / "model.safetensors")
    entry = header["model.layers.0.mlp.down_proj.weight"]
    begin, end_ = entry["data_offsets"]
    big = {"F32": b"\x00\x00\x61\x7f", "BF16": b"\x61\x7f"}[entry["dtype"]]
    support.write_safetensors(model / "model.safetensors", header,
                              data[:begin] + big * ((end_ - begin) // len(big)) + data[end_:])
    expect(train(folder, "model.init_from=model", "mla=null", "validation.sets={}", ranks=2), NUMERICAL, "step 1: error:",
           "expected finite")
    assert not steps(folder / RUN / "checkpoints")


if __name__ == "__main__":
    main()
