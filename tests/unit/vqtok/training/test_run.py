"""What `Run` promises of the loop, one process; toy.py holds the loop."""

import itertools
import json
import math

import pytest
import torch
from safetensors import safe_open

from vqtok.training import Diverged, LRConfig, OptimConfig, Run, RunConfig, cosine, optimizer_for
from vqtok.training.journal import read_rows

NOISY = {"dropout": 0.2, "every": (2, 3)}


def same(one, other):
    """Names of the tensors that differ in any bit."""
    return [name for name in one if name != "seen" and not torch.equal(one[name], other[name])]


def told(folder):
    """The rows of metrics.jsonl without the speed."""
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in read_rows(folder)]


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("critic", [False, True])
def test_stop_and_resume_equals_never_stopped(toy, tmp_path, precision, critic):
    """Bit for bit, twice in succession: weights, averages, optimizer memory and recorded metrics."""
    loop = {**NOISY, "critic": critic}
    straight = toy.train(tmp_path / "a", 12, loop, precision=precision)[1]
    toy.train(tmp_path / "b", 12, {**loop, "stop": 5}, precision=precision)
    toy.train(tmp_path / "b", 12, {**loop, "stop": 10}, precision=precision)
    run, resumed = toy.train(tmp_path / "b", 12, loop, precision=precision)
    assert resumed["seen"][0, 0] == 9
    assert run.step == 12
    assert same(straight, resumed) == []
    assert told(tmp_path / "a") == told(tmp_path / "b")


def test_straight_run_repeats(toy, tmp_path):
    """The same configuration gives the same bits; another seed gives others."""
    runs = [
        toy.train(tmp_path / str(i), 4, {"dropout": 0.2}, seed=seed)[1] for i, seed in enumerate((0, 0, 1))
    ]
    assert same(runs[0], runs[1]) == []
    assert "model-0.0.weight" in same(runs[0], runs[2])


@pytest.mark.parametrize("micro_batches", [2, 4, 8])
@pytest.mark.parametrize(
    "loop", [{}, {"weighted": True}, {"critic": True}], ids=["equal", "weighted", "critic"]
)
def test_micro_batches_equal_one_batch(toy, tmp_path, micro_batches, loop):
    """n micro-batches are one n times as large, also of unequal weights; float32 sums in another order."""
    one = toy.train(tmp_path / "one", 5, loop)[1]
    many = toy.train(tmp_path / "many", 5, loop, micro_batches=micro_batches)[1]
    for name in one:
        torch.testing.assert_close(many[name], one[name], atol=1e-6, rtol=1e-5)


def test_resume_with_other_micro_batches_reads_the_same(toy, tmp_path):
    """The position in the data is the step alone."""
    toy.train(tmp_path, 6, {"every": (0, 2), "stop": 4}, micro_batches=4)
    seen = toy.train(tmp_path, 6)[1]["seen"]
    assert seen.tolist() == [[step, step * 8 + i] for step in (4, 5) for i in range(8)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_worker_processes_change_nothing(toy, tmp_path):
    """Samples read ahead by two workers arrive in the same order, and take no random numbers."""
    alone = toy.train(tmp_path / "a", 4, {"dropout": 0.2})[1]
    helped = toy.train(tmp_path / "b", 4, {"dropout": 0.2, "workers": 2})[1]
    assert torch.equal(alone["seen"], helped["seen"])
    assert same(alone, helped) == []


def test_evaluating_more_often_changes_no_weight(toy, tmp_path):
    """An evaluation draws random numbers, as sampling does, and the weights keep every bit."""
    runs = [toy.train(tmp_path / str(n), 6, {"dropout": 0.2, "every": (n, 0)})[1] for n in (0, 1, 3)]
    assert same(runs[0], runs[1]) == []
    assert same(runs[0], runs[2]) == []


def test_equals_plain_torch(toy, tmp_path):
    """Run adds nothing to the arithmetic of a loop written by hand; clipping and both players included."""
    run, ours = toy.train(tmp_path, 5, {"critic": True})
    torch.manual_seed(0)
    model, judge = toy.network(), toy.network()
    fresh = toy.train(tmp_path / "start", 0, {"critic": True})[1]
    for i, net in enumerate((model, judge)):
        net.load_state_dict(
            {k.removeprefix(f"model-{i}."): v for k, v in fresh.items() if f"model-{i}." in k}
        )
    optimizers = [optimizer_for(net, OptimConfig()) for net in (model, judge)]
    source = toy.Numbers()
    for step in range(5):
        x = torch.stack([source[step * 8 + i]["x"] for i in range(8)])
        y = model(x)
        scores = [(y - x).pow(2).mean() - judge(y).mean(), judge(y.detach()).mean() - judge(x).mean()]
        for loss, net, clip in zip(scores, (model, judge), (1.0, 0.5), strict=True):
            gradients = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = cosine(step, toy.LR)
            optimizer.step()
    for i, net in enumerate((model, judge)):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(ours[f"model-{i}.{name}"], value, atol=1e-6, rtol=1e-5)


def test_step_moves_once_a_batch(toy, tmp_path):
    """Two updates and two micro-batches are one step, and both updates see the same number."""
    run, tensors = toy.train(tmp_path, 4, {"critic": True}, micro_batches=2)
    assert run.step == 4
    assert tensors["optimizer-0.0.step"] == tensors["optimizer-1.0.step"] == 4
    rows = read_rows(tmp_path)
    assert [row["lr"] for row in rows] == [row["lr_2"] for row in rows]
    # Two steps a row, whose rates are those of steps 0 and 1, then 2 and 3.
    expected = [(cosine(k, toy.LR) + cosine(k + 1, toy.LR)) / 2 for k in (0, 2)]
    assert [row["lr"] for row in rows] == pytest.approx(expected)


def test_every_falls_on_multiples_and_on_the_end(toy, tmp_path):
    """Never between micro-batches, never for 0, and always after the last step."""
    run = Run(RunConfig(folder=tmp_path, trackers=(), micro_batches=2))
    model = toy.network()
    model, optimizer = run.prepare(model, optimizer_for(model, OptimConfig()))
    due = []
    for samples in run.batches(toy.Numbers(), 8, 7):
        with run.accumulate(model):
            run.update(model(samples["x"]).mean(), optimizer)
        due += [run.step] if run.every(3) else []
        assert not run.every(0)
    assert due == [3, 6, 7]


def test_not_finite_loss_is_skipped_counted_and_not_recorded(toy, tmp_path):
    """Step 1 holds the bad sample 13: no weight moves in it, no record shows it, and all else goes on."""
    run, tensors = toy.train(tmp_path, 6, {"bad": [13]}, log_steps=1)
    assert (run.step, run.skipped) == (6, 1)
    assert tensors["optimizer-0.0.step"] == 5
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    rows = read_rows(tmp_path)
    assert [row["skipped"] for row in rows] == [0, 1, 1, 1, 1, 1]
    assert ["loss" in row for row in rows] == [True, False, True, True, True, True]


def test_not_finite_loss_leaves_weights_as_they_were(toy, tmp_path):
    """A run whose every loss is bad ends with the weights it began with, averages too."""
    before = toy.train(tmp_path / "a", 0)[1]
    after = toy.train(tmp_path / "b", 3, {"bad": range(24)})[1]
    assert same(before, after) == []


def test_a_critics_bad_step_takes_nothing_back(toy, tmp_path):
    """The model's step before it stands, and its average follows; the step counts as skipped."""
    run = Run(RunConfig(folder=tmp_path, trackers=(), log_steps=1))
    model, judge = toy.network(), toy.network()
    optimizers = [optimizer_for(net, OptimConfig()) for net in (model, judge)]
    model, judge, *optimizers = run.prepare(model, judge, *optimizers)
    average, before = run.ema(model, 0.9), [p.clone() for net in (model, judge) for p in net.parameters()]
    for samples in run.batches(toy.Numbers(), 8, 1):
        with run.accumulate(model, judge):
            assert run.update(model(samples["x"]).square().mean(), optimizers[0])
            assert not run.update(judge(samples["x"]).mean() * math.nan, optimizers[1])
            run.note({"size": 1.0})
    assert run.skipped == 1 and "size" not in read_rows(tmp_path)[0]
    after = [p for net in (model, judge) for p in net.parameters()]
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [False] * 4 + [True] * 4
    share = 1 - 2 / 11  # of the new weights, at the first step
    for start, now, mean in zip(before, after, average.model.parameters(), strict=False):
        torch.testing.assert_close(mean, start + share * (now - start))


def test_bad_micro_batch_spoils_only_its_step(toy, tmp_path):
    """One bad part of four skips the whole step and leaves no gradient behind for the next."""
    parts = toy.train(tmp_path / "parts", 6, {"bad": [13]}, micro_batches=4)[1]
    whole = toy.train(tmp_path / "whole", 6, {"bad": [13]})[1]
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], atol=1e-6, rtol=1e-5)


def test_patience_ends_the_run_with_the_samples(toy, tmp_path):
    """Two bad steps in a row stop it, one by one do not; the error names the samples and the way out."""
    assert toy.train(tmp_path / "a", 6, {"bad": [8, 24]}, patience=2)[0].skipped == 2
    with pytest.raises(Diverged, match=r"2 steps in a row.* 16-23, 24-31 .*resume"):
        toy.train(tmp_path / "b", 6, {"bad": [17, 30]}, patience=2)


def test_patience_is_kept_over_a_resume(toy, tmp_path):
    """Bad steps before and after a stop count together."""
    toy.train(tmp_path, 6, {"bad": [17], "every": (0, 3), "stop": 3}, patience=2)
    with pytest.raises(Diverged, match="16-23, 24-31"):
        toy.train(tmp_path, 6, {"bad": [17, 30]}, patience=2)


def test_bf16_computes_in_bfloat16_and_keeps_float32(toy, tmp_path):
    """The forward pass rounds, the weights do not, and runs of both kinds live in one process."""
    full = toy.train(tmp_path / "a", 3)[1]
    half = toy.train(tmp_path / "b", 3, precision="bf16")[1]
    again = toy.train(tmp_path / "c", 3)[1]
    assert same(full, again) == []
    assert half["model-0.0.weight"].dtype == torch.float32
    assert not torch.equal(full["model-0.0.weight"], half["model-0.0.weight"])
    torch.testing.assert_close(full["model-0.0.weight"], half["model-0.0.weight"], atol=1e-2, rtol=0)


def test_average_follows_the_weights(toy, tmp_path):
    """The copy is the running mean of the weights of all steps, with the warm-up of its decay."""
    run, tensors = toy.train(tmp_path, 0)
    expected = tensors["ema-0.0.weight"]
    for steps in range(1, 5):
        weights = toy.train(tmp_path / str(steps), steps)[1]
        decay = min(0.9, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * weights["model-0.0.weight"]
        torch.testing.assert_close(weights["ema-0.0.weight"], expected, atol=1e-6, rtol=1e-5)


def test_misuse_is_told(toy, tmp_path):
    """Each misuse of the verbs says where they belong."""
    run = Run(RunConfig(folder=tmp_path, trackers=(), micro_batches=2))
    model = toy.network()
    model, optimizer = run.prepare(model, optimizer_for(model, OptimConfig()))
    loss = model(torch.zeros(1, 4)).mean()
    with pytest.raises(RuntimeError, match="inside `with run.accumulate"):
        run.update(loss, optimizer)
    with pytest.raises(RuntimeError, match=r"inside `for ... in run.batches"), run.accumulate(model):
        pass
    with pytest.raises(RuntimeError, match="without `with run.accumulate"):
        list(run.batches(toy.Numbers(), 4, 2))
    for _ in run.batches(toy.Numbers(), 4, 2):
        with pytest.raises(RuntimeError, match="inside a batch"):
            run.save()
        break
    with pytest.raises(ValueError, match="batch 5 .* make it a multiple of 2"):
        next(run.batches(toy.Numbers(), 5, 2))


def test_other_optimizers_are_refused(toy, tmp_path):
    """`update` takes what `prepare` returned."""
    run = Run(RunConfig(folder=tmp_path, trackers=()))
    model = run.prepare(toy.network())
    with pytest.raises(ValueError, match="run.prepare"):
        for samples in run.batches(toy.Numbers(), 4, 1):
            with run.accumulate(model):
                run.update(model(samples["x"]).mean(), optimizer_for(model, OptimConfig()))


def test_another_model_is_refused(toy, tmp_path):
    """A folder with another model's run names what does not fit."""
    toy.train(tmp_path, 2, {"every": (0, 2)})
    run = Run(RunConfig(folder=tmp_path, trackers=()))
    run.prepare(torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match="use a new run.folder"):
        run.resume()
    with pytest.raises(ValueError, match="use a new run.folder"):
        toy.train(tmp_path, 2, {"critic": True})


def test_finished_run_says_so(toy, tmp_path, capsys):
    """Resuming a run that is complete trains nothing and tells it."""
    toy.train(tmp_path, 2, {"every": (0, 2)})
    assert len(toy.train(tmp_path, 2)[1]["seen"]) == 0
    assert "nothing is left to train" in capsys.readouterr().out


def test_progress_without_a_terminal_is_plain_lines(toy, tmp_path, capsys):
    """The last line tells step, loss, rate and time left, and no escape codes."""
    toy.train(tmp_path, 3)
    line = capsys.readouterr().out.strip()
    assert line.startswith("step 3/3  loss ")
    assert line.endswith("left")
    assert "samples/s" in line
    assert "\x1b" not in line


def test_trackers_write_into_the_folder_only(toy, tmp_path, monkeypatch):
    """TensorBoard's files lie under the run's folder; without trackers there are none."""
    monkeypatch.chdir(tmp_path)
    run = toy.train("run", 4, {"every": (2, 0)}, trackers=("tensorboard",))[0]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
    run.show("dots", torch.rand(3, 5, 7))
    toy.train("none", 4)
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == ["metrics.jsonl"]


def test_unknown_tracker_is_named(tmp_path):
    """A tracker that is not installed is an error, not silence."""
    with pytest.raises(ValueError, match="tracker 'tensorbord' is not installed"):
        Run(RunConfig(folder=tmp_path, trackers=("tensorbord",)))


def test_show_writes_the_picture(tmp_path):
    """Pixels come back as they were, under the name and the step."""
    from PIL import Image

    run = Run(RunConfig(folder=tmp_path, trackers=("tensorboard",)))
    image = torch.zeros(3, 2, 5)
    image[0, :, 3] = 1.0
    run.show("answer", image)
    read = Image.open(tmp_path / "pictures" / "answer-000000.png")
    assert read.size == (5, 2)
    assert read.getpixel((3, 1)) == (255, 0, 0)
    assert read.getpixel((2, 1)) == (0, 0, 0)


def test_log_keeps_numbers(tmp_path):
    """Tensors and numbers become JSON; what is not finite becomes null."""
    run = Run(RunConfig(folder=tmp_path, trackers=()))
    run.log({"held out": torch.tensor(0.5), "ratio": float("inf")})
    assert read_rows(tmp_path) == [{"step": 0, "held out": 0.5, "ratio": None}]


def test_checkpoints_hold_no_pickle(toy, tmp_path):
    """Only safetensors and JSON lie in a checkpoint, and `keep` of them stay."""
    toy.train(tmp_path, 6, {"every": (0, 1)}, keep=3)
    places = sorted((tmp_path / "checkpoints").iterdir())
    assert [place.name for place in places] == ["step-00000004", "step-00000005", "step-00000006"]
    for path in itertools.chain.from_iterable(place.iterdir() for place in places):
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            with safe_open(path, "pt") as file:
                assert file.keys()


def test_settings_are_checked():
    """Each refused setting is named with its limit."""
    with pytest.raises(ValueError, match=r"run.micro_batches is 0"):
        RunConfig(folder="x", micro_batches=0)
    with pytest.raises(ValueError, match="warmup_steps 5"):
        LRConfig(peak=1.0, warmup_steps=5, steps=5)
    with pytest.raises(ValueError, match="betas"):
        OptimConfig(betas=(0.9, 1.0))
