"""What the tests that run the program share: how to run it, a tiny training run, and files to feed it."""
import json
import os
import struct
import subprocess

# Exit codes, docs/exit_codes.md.
OK, USAGE, BAD_DATA, MISSING, LOCKED, IO, PREEMPTED, NO_CHECKPOINT, PERMISSION, BAD_CONFIG, NUMERICAL = (
    0, 64, 65, 66, 73, 74, 75, 76, 77, 78, 79)
MODEL = "tests/data_files/llama-gqa-tied"  # of the source folder: 2 layers, 2 kv heads of width 12
VOCABULARY = 97
CONFIG = """
general: {{project: test, run: bits, output_dir: {out}}}
model: {{init_from: {model}, dtype: {dtype}}}
mla:
  rope: {{strategy: 2-norm, rope_pairs_per_head: 2}}
  latent: {{method: joint, latent_dims_per_kv_head: 5}}
  calibration: {{windows: 8}}
data_stages: [{{name: main, data: {{dataset: {{dataset_folder: {shard}}}}}}}]
validation: {{sets: {{train: {shard}}}, windows_per_set: 5}}
tokens: {{sequence_length: 16, micro_batch_size: 2, global_batch_size: 8, train_steps: 6, val_check_interval: 2}}
optimizer: {{learning_rate_scheduler: {{learning_rate: 1.0e-3}}}}
parallelism: {{threads_per_rank: 1, reduction_shards: 4}}
checkpoints: {{checkpoint_interval: 2, keep_last: 10}}
"""


def environment(threads=2):
    """As any user in any container has it: as root, and with more ranks than cores. Passive, because
    threads that spin while they wait take the time of the tests beside them."""
    return dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive",
                OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1")


def run(command, folder=None, threads=2, timeout=120):
    return subprocess.run([str(word) for word in command], cwd=folder, env=environment(threads),
                          capture_output=True, text=True, timeout=timeout)


def mpirun(ranks, launcher="mpirun"):
    return [launcher, "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]


def write_shard(path, vocabulary=VOCABULARY, count=3000, seed=1):
    """A Nanoset shard of 16-bit ids without structure, the same on every machine."""
    value, ids = seed, []
    for _ in range(count):
        value = (value * 1103515245 + 12345) % (1 << 31)
        ids.append((value >> 8) % vocabulary)
    path.write_bytes(struct.pack(f"<{count}H", *ids))
    return path


def write_config(path, source, shard, out, dtype="float32"):
    path.write_text(CONFIG.format(out=out, model=source / MODEL, shard=shard, dtype=dtype))
    return path


def read_safetensors(path):
    """(header, data): the entries by name, and the bytes that their offsets count in."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + length]), content[8 + length:]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
