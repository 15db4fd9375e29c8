"""Starts runs and kills them at random moments: `python killer.py <folder> <kills> <seed>`.

One warm process forks a child per attempt, so that an attempt costs milliseconds rather than the import of
torch. Each child resumes where the last one was killed. A run that reaches its end must equal the straight
run in every bit; then the next begins anew, until enough attempts were killed in training and enough inside a
save. Prints the counts.
"""

import io
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
import toy
from safetensors.torch import load_file, save_file

from vqtok.storage.folders import TEMPORARY
from vqtok.training import Run
from vqtok.training.checkpoints import steps
from vqtok.training.journal import read_rows

STEPS = 24
LOOP = {"dropout": 0.2, "every": (2, 3)}
STARTING, TRAINING, SAVING = range(3)


def child(folder, phase):
    """Resume and train to the end; `phase` tells what is going on, how often it began, and the first step."""
    save = Run.save

    def marked_save(run):
        phase[:2] = bytes([SAVING, phase[1] + 1])
        save(run)
        phase[:2] = bytes([TRAINING, phase[1] + 1])

    batches = Run.batches

    def marked_batches(run, *arguments):
        phase[:] = bytes([TRAINING, 1, run.step])
        return batches(run, *arguments)

    Run.save, Run.batches = marked_save, marked_batches
    tensors = toy.train(folder, STEPS, LOOP)[1]
    del tensors["seen"]  # only what this attempt read
    save_file(tensors, folder.with_suffix(".safetensors"))


def attempt(folder, target=None, turn=0, delay=0.0):
    """Fork a child and kill it in a phase: the phase it died in, or None if it ended first.

    Args:
        folder: Of the run.
        target: Phase to wait for; None lets the child end.
        turn: Changes of phase to let pass before.
        delay: Seconds from the beginning of the phase.
    """
    phase, saved = mmap.mmap(-1, 3), steps(folder / "checkpoints")
    process = os.fork()
    if process == 0:
        try:
            child(folder, phase)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ended = (0, 0)
    while target is not None and not ended[0] and (phase[0] != target or phase[1] <= turn):
        time.sleep(0.0005)
        ended = os.waitpid(process, os.WNOHANG)
    if target is not None and not ended[0]:
        time.sleep(delay)
        os.kill(process, signal.SIGKILL)
    status = ended[1] if ended[0] else os.waitpid(process, 0)[1]
    if phase[1] and saved:
        assert phase[2] >= int(saved[-1].name[5:]), f"step {phase[2]}, but {saved[-1].name} was there: lost"
    if os.WIFSIGNALED(status):
        return phase[0]
    assert os.WEXITSTATUS(status) == 0, "the child failed: it did not resume"
    return None


def check(folder, straight):
    """The run that was killed and resumed left what the straight one left, and no temporary."""
    one, other = (load_file(path.with_suffix(".safetensors")) for path in (folder, straight))
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different
    rows = [
        [{k: v for k, v in row.items() if k != "samples_per_second"} for row in read_rows(path)]
        for path in (folder, straight)
    ]
    assert rows[0] == rows[1]
    left = [str(path) for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
    assert not left, left


def measure(folder):
    """Seconds of a whole run and of one save, in this process; it also warms what the children inherit."""
    spent = []
    save = Run.save

    def timed(run):
        began = time.monotonic()
        save(run)
        spent.append(time.monotonic() - began)

    Run.save = timed
    for name in ("cold", "warm"):
        began = time.monotonic()
        toy.train(folder / name, STEPS, LOOP)
        whole = time.monotonic() - began
    Run.save = save
    saving = sum(spent[-8:]) / 8
    return {SAVING: saving, TRAINING: max(whole - 8 * saving, 0) / 8}


def main():
    """Kill until both kinds of moment have been met often enough, and let three runs end."""
    root, wanted, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    torch.set_num_threads(1)
    tell, sys.stdout = sys.stdout, io.StringIO()
    lengths = measure(root)
    straight, folder = root / "straight", root / "killed"
    assert attempt(straight) is None
    counts, finished, killed, began = {TRAINING: 0, SAVING: 0}, 0, 0, time.monotonic()
    while sum(counts.values()) < wanted or min(counts.values()) < wanted // 3 or finished < 3:
        enough = sum(counts.values()) >= wanted and min(counts.values()) >= wanted // 3
        target = None if enough and killed else min(counts, key=counts.get)
        died = attempt(folder, target, dice.randrange(6), dice.uniform(0, lengths.get(target, 0)))
        if died is None:
            check(folder, straight)
            finished += killed > 0
            killed = 0
            shutil.rmtree(folder)
        else:
            counts[died] += 1
            killed += 1
    facts = {"training": counts[TRAINING], "saving": counts[SAVING], "finished": finished}
    print(json.dumps({**facts, "seconds": time.monotonic() - began}), file=tell)


if __name__ == "__main__":
    main()
