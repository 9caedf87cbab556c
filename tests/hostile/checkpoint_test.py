"""Damaged and foreign checkpoints of a run (H5): the newest valid one is taken, bad ones are set aside with
the reason, nothing is deleted, and the run ends with the bits that it would have had."""
import ctypes
import json
import os
import shutil

from harness import BAD_CONFIG, IO, LOCKED, MODEL, OK, PROGRAM, Skipped, main, scenario, support
from runs import NO_CHECKPOINT, RUN, end, expect, files, final_state, intact, start, steps, train, trained

NEWEST, OLDER = "step-000000006", "step-000000004"
STATE = "state-00001-of-00001.h5"


def goes_on(folder, *parts, damaged=NEWEST, resumed=OLDER):
    """The damaged checkpoint goes to quarantine as it is, with its reason; the run ends as if it were not."""
    checkpoints = folder / RUN / "checkpoints"
    before = files(checkpoints / damaged)
    expect(train(folder), OK, f"{damaged} is invalid", "moved to", "resumed from", f"checkpoints/{resumed}", *parts)
    assert files(checkpoints / "quarantine" / damaged) == before, "what was set aside has changed"
    reason = (checkpoints / f"quarantine/{damaged}.reason.txt").read_text()
    assert reason.count("\n") == 1 and all(part in reason for part in parts), reason
    assert steps(checkpoints) == [2, 4, 6], steps(checkpoints)
    assert final_state(checkpoints) == intact(), "the run ended with other bits"


def damage(name, *parts):
    """A scenario in which a function damages the newest checkpoint and the run goes on from the one before."""
    def register(change):
        @scenario(name)
        def _(folder):
            change(trained(folder) / NEWEST)
            goes_on(folder, *parts)
    return register


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0x10
    path.write_bytes(content)


def xxh3_128(content):
    try:
        library = ctypes.CDLL("libxxhash.so.0")
    except OSError:
        raise Skipped("a valid manifest cannot be made without libxxhash.so.0") from None

    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
    library.XXH3_128bits.restype = Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    value = library.XXH3_128bits(content, len(content))
    return f"{value.high:016x}{value.low:016x}"


def rewrite_manifest(checkpoint, change):
    """Changes the manifest and gives it the hash of its new content, as another program would."""
    path = checkpoint / "MANIFEST.json"

    def text(document):
        return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    document = json.loads(path.read_text())
    stored = document.pop("xxh3_128")
    assert xxh3_128(text(document).encode()) == stored, "this test writes other JSON than the program"
    change(document)
    document["xxh3_128"] = xxh3_128(text(document).encode())
    path.write_text(text(document))


def rewrite_file(checkpoint, name, content):
    (checkpoint / name).write_bytes(content)

    def change(document):
        document["files"][name] = {"bytes": len(content), "xxh3_128": xxh3_128(content)}
    rewrite_manifest(checkpoint, change)


damage("H501 state_file_cut_by_a_byte", STATE, "size: expected 503864 bytes, got 503863")(
    lambda checkpoint: cut(checkpoint / STATE, -1))
damage("H501 state_file_cut_in_half", STATE, "size: expected")(lambda checkpoint: cut(checkpoint / STATE, 250000))
damage("H501 state_file_empty", STATE, "size: expected", "got 0")(lambda checkpoint: cut(checkpoint / STATE, 0))
damage("H501 state_file_longer", STATE, "size: expected")(
    lambda checkpoint: (checkpoint / STATE).write_bytes((checkpoint / STATE).read_bytes() + b"\0"))
damage("H502 bit_of_a_tensor", STATE, "hash: expected")(lambda checkpoint: flip(checkpoint / STATE, 250000))
damage("H502 bit_of_the_superblock", STATE, "hash: expected")(lambda checkpoint: flip(checkpoint / STATE, 10))
damage("H502 bit_of_a_companion", "config.json", "hash: expected")(
    lambda checkpoint: flip(checkpoint / "config.json", 100))
damage("H502 bit_of_the_manifest", "MANIFEST.json")(lambda checkpoint: flip(checkpoint / "MANIFEST.json", 5000))
damage("H503 manifest_missing", "MANIFEST.json", "expected an existing file")(
    lambda checkpoint: (checkpoint / "MANIFEST.json").unlink())
damage("H503 manifest_empty", "MANIFEST.json")(lambda checkpoint: cut(checkpoint / "MANIFEST.json", 0))
damage("H503 manifest_cut", "MANIFEST.json")(lambda checkpoint: cut(checkpoint / "MANIFEST.json", 4000))
damage("H503 manifest_of_another_step", "MANIFEST.json", "step: expected 6, got 4")(
    lambda checkpoint: (shutil.rmtree(checkpoint), shutil.copytree(checkpoint.parent / OLDER, checkpoint)))
damage("H503 manifest_edited", "MANIFEST.json", "xxh3_128: expected")(
    lambda checkpoint: (checkpoint / "MANIFEST.json").write_text(
        (checkpoint / "MANIFEST.json").read_text().replace('"step": 6', '"step": 7')))
damage("H504 state_file_missing", STATE, "No such file")(lambda checkpoint: (checkpoint / STATE).unlink())
damage("H504 state_file_extra", "state-00002-of-00002.h5", "expected only those of the manifest")(
    lambda checkpoint: shutil.copy(checkpoint / STATE, checkpoint / "state-00002-of-00002.h5"))
damage("H504 state_file_of_another_checkpoint", STATE, "hash: expected")(
    lambda checkpoint: shutil.copy(checkpoint.parent / OLDER / STATE, checkpoint / STATE))
damage("H504 state_file_is_a_folder", STATE, "file: expected a regular file")(
    lambda checkpoint: ((checkpoint / STATE).unlink(), (checkpoint / STATE).mkdir()))

@scenario("H504 state_files_swapped_between_two")
def _(folder):
    checkpoints = trained(folder)
    a, b = checkpoints / NEWEST / STATE, checkpoints / OLDER / STATE
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second), b.write_bytes(first)
    expect(train(folder), OK, f"{NEWEST} is invalid", f"{OLDER} is invalid", "checkpoints/step-000000002")
    assert steps(checkpoints) == [2, 4, 6] and final_state(checkpoints) == intact()


@scenario("H505 all_bad")
def _(folder):
    checkpoints = trained(folder)
    cut(checkpoints / NEWEST / STATE, 100)
    flip(checkpoints / OLDER / STATE, 250000)
    (checkpoints / "step-000000002/MANIFEST.json").unlink()
    before = files(checkpoints)
    for _ in range(2):  # not only the first time: nothing may start anew in their place
        expect(train(folder), NO_CHECKPOINT, "checkpoints: error: checkpoints: expected a valid one, got none:", NEWEST,
               "size: expected", OLDER, "hash: expected", "step-000000002/MANIFEST.json", "another run name")
        assert files(checkpoints) == before, "something was moved or deleted"


@scenario("H505 all_in_quarantine")
def _(folder):
    checkpoints = trained(folder)
    (checkpoints / "quarantine").mkdir()
    for path in list(checkpoints.glob("step-*")):
        path.rename(checkpoints / "quarantine" / path.name)
    before = files(checkpoints)
    expect(train(folder), NO_CHECKPOINT, "all are in", "quarantine", "another run name")
    assert files(checkpoints) == before


def state_without(name):
    def change(document):
        document["state"]["tensors"].pop(name)
    return change


damage("H506 dataset_that_the_manifest_does_not_list", STATE, "norm.weight", "dataset: expected only those of the manifest")(
    lambda checkpoint: rewrite_manifest(checkpoint, state_without("norm.weight")))


def change_tensor(name, **entry):
    def change(document):
        document["state"]["tensors"][name] |= entry
    return change


damage("H506 dataset_missing", STATE, "norm.more")(lambda checkpoint: rewrite_manifest(
    checkpoint, lambda document: document["state"]["tensors"].update({"norm.more": document["state"]["tensors"]["norm.weight"]})))
damage("H506 dataset_of_another_shape", STATE, "norm.weight", "shape: expected [24, 2], got [48]")(
    lambda checkpoint: rewrite_manifest(checkpoint, change_tensor("norm.weight", shape=[24, 2])))
damage("H506 dataset_of_another_type", STATE, "norm.weight", "dtype: expected float64, got float32")(
    lambda checkpoint: rewrite_manifest(checkpoint, change_tensor("norm.weight", dtype="float64")))
damage("H506 dataset_of_five_dimensions", "MANIFEST.json:norm.weight", "shape: expected at most 4 extents, got [1,1,1,1,48]")(
    lambda checkpoint: rewrite_manifest(checkpoint, change_tensor("norm.weight", shape=[1, 1, 1, 1, 48])))
damage("H506 dataset_of_a_size_that_overflows", "MANIFEST.json:norm.weight", "shape: expected a product below 2^60")(
    lambda checkpoint: rewrite_manifest(checkpoint, change_tensor("norm.weight", shape=[2**62, 4, 3])))


@scenario("H506 value_that_this_run_does_not_have")
def _(folder):
    checkpoints = trained(folder)
    rewrite_manifest(checkpoints / NEWEST, lambda document: document["state"]["values"].update({"of_the_future": 1}))
    before = files(checkpoints)
    expect(train(folder), NO_CHECKPOINT, f"{NEWEST}:of_the_future: error: state: expected only what this run has")
    assert files(checkpoints) == before


@scenario("H508 newer_format")
def _(folder):
    checkpoints = trained(folder)
    rewrite_manifest(checkpoints / NEWEST,
                     lambda document: document.update({"format_version": 7, "min_reader_version": 7}))
    before = files(checkpoints)
    expect(train(folder), BAD_CONFIG, "MANIFEST.json: error: format_version: expected at most 1", "got 7", "newer program")
    assert files(checkpoints) == before, "a checkpoint that is not damaged was moved"


damage("H510 foreign_bytes_as_state", STATE, "hash: expected")(
    lambda checkpoint: (checkpoint / STATE).write_bytes(b"\x89HDF\r\n\x1a\n".ljust(503864, b"\xff")))
damage("H510 foreign_bytes_with_a_valid_manifest", STATE, "HDF5 open")(
    lambda checkpoint: rewrite_file(checkpoint, STATE, b"\x89HDF\r\n\x1a\n".ljust(503864, b"\xff")))
damage("H511 consistency_flag_of_a_killed_writer", STATE, "hash: expected")(
    lambda checkpoint: (checkpoint / STATE).write_bytes(with_consistency_flag((checkpoint / STATE).read_bytes())))


def with_consistency_flag(content):
    assert content[8] == 3, "a superblock of version 3 has the flags in byte 11"
    return content[:11] + bytes([content[11] | 1]) + content[12:]


@scenario("H513 of_another_configuration")
def _(folder):
    checkpoints = trained(folder)
    before = files(checkpoints)
    expect(train(folder, "mla.latent.latent_dims_per_kv_head=6", "optimizer.clip_grad=0.5"), BAD_CONFIG,
           "run.yaml: error: resume: expected", "mla.latent.latent_dims_per_kv_head: 5 -> 6",
           "optimizer.clip_grad: 1 -> 0.5", "another general.run")
    assert files(checkpoints) == before


@scenario("H513 of_another_model")
def _(folder):
    checkpoints = trained(folder)
    other = folder / "other"
    shutil.copytree(MODEL, other)
    before = files(checkpoints)
    expect(train(folder, f"model.init_from={other}"), BAD_CONFIG, "model.init_from", "->", "other")
    assert files(checkpoints) == before


@scenario("H513 of_another_run")
def _(folder):
    """Copied from a run with the same configuration and other data: the fingerprint tells."""
    checkpoints = trained(folder)
    support.write_shard(folder / "train.ds", seed=2)
    before = files(checkpoints)
    expect(train(folder, "tokens.train_steps=8", "optimizer.learning_rate_scheduler.lr_decay_steps=6"), BAD_CONFIG)
    assert files(checkpoints) == before


@scenario("H514 other_number_of_ranks")
def _(folder):
    checkpoints = trained(folder)
    shutil.rmtree(checkpoints / NEWEST)
    expect(train(folder, ranks=3), OK, "resumed from", OLDER)
    assert final_state(checkpoints) == intact()


def latest(name, make):
    @scenario(f"H515 latest_{name}")
    def _(folder):
        checkpoints = trained(folder)
        shutil.rmtree(checkpoints / NEWEST)
        (checkpoints / "LATEST").unlink()
        make(checkpoints / "LATEST")
        expect(train(folder), OK, "resumed from", OLDER)
        assert steps(checkpoints) == [2, 4, 6] and final_state(checkpoints) == intact()
        assert (checkpoints / "LATEST").is_dir() or (checkpoints / "LATEST").read_text() == f"{NEWEST}\n"


latest("missing", lambda path: None)
latest("names_what_is_gone", lambda path: path.write_text("step-000000099\n"))
latest("names_an_unfinished_one", lambda path: path.write_text(".tmp-6-0123456789abcdef\n"))
latest("names_a_quarantined_one", lambda path: path.write_text("quarantine/step-000000006\n"))
latest("dangling_link", lambda path: path.symlink_to("step-000000099"))
latest("is_a_folder", lambda path: path.mkdir())
latest("is_rubbish", lambda path: path.write_bytes(bytes(range(256))))


@scenario("H516 times_say_otherwise")
def _(folder):
    """The oldest is the newest by time, and the newest is from 1970: only the number of the step counts."""
    checkpoints = trained(folder)
    shutil.rmtree(checkpoints / NEWEST)
    for path in [*(checkpoints / OLDER).iterdir(), checkpoints / OLDER]:
        os.utime(path, (0, 0))
    for path in [*(checkpoints / "step-000000002").iterdir(), checkpoints / "step-000000002"]:
        os.utime(path, (2**32, 2**32))  # 2106
    expect(train(folder), OK, "resumed from", OLDER)
    assert final_state(checkpoints) == intact()


@scenario("H517 leftovers_of_dead_writers")
def _(folder):
    checkpoints = trained(folder)
    shutil.rmtree(checkpoints / NEWEST)
    for name in [".tmp-6-0123456789abcdef", ".trash-2-0123456789abcdef"]:
        shutil.copytree(checkpoints / OLDER, checkpoints / name)
    (checkpoints / ".tmp-mine").mkdir()
    (checkpoints / "notes.txt").write_text("mine")
    expect(train(folder), OK, "resumed from", OLDER)
    assert sorted(p.name for p in checkpoints.iterdir() if not p.name.startswith("step-")) == [
        ".tmp-mine", "LATEST", "notes.txt"], "removed are our own leftovers, and nothing else"
    assert final_state(checkpoints) == intact()


@scenario("H518 read_errors_in_the_newest")
def _(folder):
    """The disk can no longer read what it holds: every read of that file fails, and of no other."""
    checkpoints = trained(folder)
    state = checkpoints / NEWEST / STATE
    fails = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", state, "-e", "inject=read,pread64:error=EIO"]
    if not shutil.which("strace") or end(start(folder, [*fails, "true"])).returncode != 0:
        raise Skipped("reads can only be made to fail with strace")
    before = files(checkpoints)
    expect(end(start(folder, [*fails, PROGRAM, "train", "run.yaml"])), IO, f"{NEWEST}/{STATE}: error:", "Input/output error",
           "nothing was moved", "--resume PATH")
    assert files(checkpoints) == before, "what cannot be read may be whole"
    expect(train(folder), OK, "resumed from", NEWEST)


@scenario("H519 resume_none_does_not_write_over_a_run")
def _(folder):
    checkpoints = trained(folder)
    before = files(checkpoints)
    expect(train(folder, "--resume", "none"), LOCKED, "--resume none: expected a run without checkpoints")
    assert files(checkpoints) == before


if __name__ == "__main__":
    main()
