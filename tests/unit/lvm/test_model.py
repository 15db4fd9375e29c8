"""LVM: prompts that fit, prompts that are refused, and folders it comes back from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.generate import answer_nats
from lvm.layout import BareConfig, MarkedConfig
from lvm.model import LVM, LVMConfig, seed_embeddings, usable
from lvm.prompts import orders
from vqtok.data.pictures import fitted
from vqtok.gpt.config import GPTConfig
from vqtok.gpt.guidance import Constant
from vqtok.gpt.model import GPT
from vqtok.gpt.sampling import Sampling
from vqtok.tokenizers import load_tokenizer
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.maskgit import MaskGITConfig, MaskGITTokenizer
from vqtok.tokenizers.quantizers.fsq import FSQConfig
from vqtok.tokenizers.quantizers.lfq import LFQConfig
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.quantizers.vq import VQConfig
from vqtok.tokenizers.tokenizer import VQTokenizer

GUIDED = Sampling(temperature=0, guidance=Constant(scale=2.5))


@pytest.fixture(params=["marked", "bare"])
def whole(request: pytest.FixtureRequest, model: LVM) -> LVM:
    """An untrained LVM, of marked sentences or bare as the published one's, that hears its whole prompt."""
    torch.manual_seed(1)
    bare = request.param == "bare"
    vocab, layout = (132, BareConfig()) if bare else (35, MarkedConfig())
    gpt = replace(model.config.gpt, vocab=vocab, length=8 * 16)
    whole = LVM(LVMConfig(tokenizer=model.config.tokenizer, gpt=gpt, layout=layout)).eval()
    whole.tokenizer = model.tokenizer
    with torch.no_grad():
        for weight in whole.gpt.parameters():
            if weight.ndim == 2:
                weight.normal_(std=1.5 * weight.shape[1] ** -0.5)
    return whole


def pictures(count: int, size: int = 64) -> list[torch.Tensor]:
    """Random pictures."""
    return [*torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))]


def prompt_of(pairs: int) -> dict:
    """Arguments of `LVM.prompt`."""
    images = pictures(2 * pairs + 1)
    return {"pairs": [*zip(images[:-1:2], images[1::2], strict=True)], "query": images[-1]}


@pytest.mark.parametrize("pairs", [0, 1, 3])
def test_an_answer_is_a_picture(model: LVM, pairs: int):
    """Of the model's size, in [0, 1], the same every time, with any number of pairs that fits."""
    prompt = prompt_of(pairs)
    answer = model.prompt(**prompt)
    assert answer.shape == (1, 3, 64, 64) and 0 <= float(answer.min()) <= float(answer.max()) <= 1
    assert torch.equal(answer, model.prompt(**prompt))


def test_candidates_are_drawn_by_the_seed(model: LVM):
    """Several differ from each other, come again with their seed, and differ with another."""
    prompt = prompt_of(1)
    first, again, other = (model.prompt(**prompt, candidates=3, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (3, 3, 64, 64)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_prompting_touches_no_global_randomness(model: LVM):
    """The caller's random numbers go on as if nothing had been drawn."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    model.prompt(**prompt_of(1), sampling=Sampling(temperature=1.0), seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_too_many_pairs_are_refused(model: LVM):
    """The message has how many were given and how many fit."""
    assert model.shots == 3
    told = "4 pairs are too many, 3 fit before a query: leave some out, or ask an ensemble of 2"
    with pytest.raises(ValueError, match=told):
        model.prompt(**prompt_of(4))


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_pictures_of_any_size_are_fitted(model: LVM, fit: str, monkeypatch: pytest.MonkeyPatch):
    """By the model's `fit`, cropped unless told; pairs, query and frames alike, and pairs may differ."""
    assert LVM.fit == "crop"
    monkeypatch.setattr(model, "fit", fit, raising=False)
    sizes = [(80, 50), (80, 50), (16, 90), (16, 90), (64, 64)]
    images = [torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) for size in sizes]
    fit_images = [fitted(image, 64, fit) for image in images]
    answers = [model.prompt([(a, b), (c, d)], query) for a, b, c, d, query in (images, fit_images)]
    assert torch.equal(*answers)
    assert torch.equal(model.continue_(images), model.continue_(fit_images))


@pytest.mark.parametrize(
    ("pairs", "query", "message"),
    [
        ([(64, 64), (64, 32)], 64, "pictures of pair 2 have 64x64 and 32x32 pixels .*: .* give both in one"),
        ([64, 64], 64, r"pairs are 2 single pictures: give \[\(x1, y1\)"),
        ([64, 64, 64], 64, "pairs are 3 single pictures, an odd number"),
        ([(64, 64), (64,)], 64, "pair 2 has 1 pictures: give two"),
        ([(64, 64, 64)], 64, "pair 1 has 3 pictures: give two"),
    ],
)
def test_pictures_that_do_not_pair_up_are_refused(model: LVM, pairs: list, query: int, message: str):
    """The message names the pair, what is wrong with it, and what to give."""

    def of(sizes: int | tuple) -> object:
        return torch.rand(3, sizes, sizes) if isinstance(sizes, int) else tuple(map(of, sizes))

    with pytest.raises(ValueError, match=message):
        model.prompt([of(pair) for pair in pairs], of(query))


def test_what_is_no_picture_is_refused(model: LVM):
    """With its place in the prompt."""
    with pytest.raises(ValueError, match=r"picture 3 of the prompt: an image is torch.float32 \(1, 64, 64\)"):
        model.prompt([tuple(pictures(2))], pictures(1)[0][:1])
    with pytest.raises(ValueError, match="picture 1 of the prompt: .* divide by 255"):
        model.continue_([pictures(1, size=32)[0] * 255])


def test_a_picture_outside_the_range_is_refused(model: LVM):
    """Pixels from 0 to 255 are told to be divided."""
    with pytest.raises(ValueError, match="divide by 255"):
        model.prompt([], pictures(1)[0] * 255)


@pytest.mark.parametrize(
    "options",
    [{}, {"ensemble": 2}, {"sampling": replace(GUIDED, temperature=1.0)}, {"allowed": "seen"}],
)
def test_answers_come_best_first_with_their_nats(whole: LVM, options: dict):
    """Images, codes and nats belong together; `prompt` gives the same images."""
    prompt = prompt_of(2) | options
    found = whole.answer(**prompt, candidates=4, seed=1)
    assert torch.equal(found.nats, found.nats.sort().values) and len(found.nats.unique()) == 4
    assert torch.equal(found.images, whole.tokenizer.decode(found.ids))
    assert torch.equal(found.images, whole.prompt(**prompt, candidates=4, seed=1))


def test_nats_are_those_of_the_prompt(whole: LVM):
    """The mean over an answer's tokens of what each costs after the pairs, the query and those before it."""
    prompt = prompt_of(2)
    found = whole.answer(**prompt, candidates=3, sampling=Sampling(temperature=2.0))
    images = [picture for pair in prompt["pairs"] for picture in pair] + [prompt["query"]]
    codes = whole.tokenizer.encode(torch.stack(images)).flatten(1)
    sentences = torch.stack([torch.cat([codes, ids.flatten()[None]]) for ids in found.ids])
    expected = answer_nats(whole.gpt, whole.layout, sentences).mean(1)
    torch.testing.assert_close(found.nats, expected, atol=1e-4, rtol=0)


def test_an_ensemble_asks_in_several_orders(whole: LVM):
    """The mean of log-probabilities after each order, token by token; of more pairs than fit, in sets."""
    prompt = prompt_of(4)
    found = whole.answer(**prompt, ensemble=3, seed=5)
    images = [picture for pair in prompt["pairs"] for picture in pair] + [prompt["query"]]
    codes = whole.tokenizer.encode(torch.stack(images)).flatten(1)
    drawn, heard = found.ids.flatten(), []
    for order in orders(4, 3, 3, seed=5):
        rows = [row for pair in order for row in (2 * pair, 2 * pair + 1)] + [8]
        ids = whole.layout.prompt(torch.cat([codes[rows], drawn[None]])[None])
        heard.append(whole.gpt(ids[:, :-1])[0, -16:].log_softmax(-1))
    mean = torch.stack(heard).mean(0)[:, : whole.tokenizer.vocab]
    assert torch.equal(mean.argmax(-1), drawn) and len(drawn.unique()) > 2
    assert not torch.equal(found.ids, whole.answer(prompt["pairs"][:3], prompt["query"]).ids)


def test_guidance_compares_with_the_query_alone(whole: LVM):
    """Each token is the best of cond + (scale - 1) (cond - uncond), uncond being without pairs."""
    prompt = prompt_of(2)
    found = whole.answer(**prompt, sampling=GUIDED)
    images = [picture for pair in prompt["pairs"] for picture in pair] + [prompt["query"]]
    codes = whole.tokenizer.encode(torch.stack(images)).flatten(1)
    drawn = found.ids.flatten()
    parts = [whole.layout.prompt(torch.cat([seen, drawn[None]])[None]) for seen in (codes, codes[-1:])]
    cond, uncond = (whole.gpt(ids[:, :-1])[0, -16:, : whole.tokenizer.vocab] for ids in parts)
    assert torch.equal((2.5 * cond - 1.5 * uncond).argmax(-1), drawn)
    assert not torch.equal(cond.argmax(-1), drawn)
    with pytest.raises(ValueError, match="guidance compares with the prompt without pairs: give pairs"):
        whole.prompt([], prompt["query"], sampling=GUIDED)


def test_allowed_codes(whole: LVM):
    """'seen' draws codes of the pairs' second pictures only, a mask those that are true."""
    prompt, hot = prompt_of(2), Sampling(temperature=50.0)
    shown = whole.tokenizer.encode(torch.stack([after for _, after in prompt["pairs"]])).unique()
    found = whole.answer(**prompt, candidates=4, sampling=hot, allowed="seen").ids
    assert torch.isin(found, shown).all()
    mask = torch.arange(whole.tokenizer.vocab) % 7 == 3
    found = whole.answer(**prompt, candidates=4, sampling=hot, allowed=mask).ids
    assert (found % 7 == 3).all()
    frames = prompt["pairs"][0]
    mask = torch.isin(torch.arange(len(mask)), whole.tokenizer.encode(torch.stack(frames)))
    drawn = [whole.continue_(frames, 3, hot, allowed=allowed) for allowed in ("seen", mask, None)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    with pytest.raises(ValueError, match="allowed='seen', but no answer is shown: give pairs"):
        whole.prompt([], prompt["query"], allowed="seen")


def test_a_row_goes_on(whole: LVM):
    """As many pictures as asked for, the first being the answer to a prompt of these; none is refused."""
    prompt = prompt_of(1)
    frames = [*prompt["pairs"][0], prompt["query"]]
    drawn = whole.continue_(frames, 12)
    assert drawn.shape == (12, 3, 64, 64)
    # Pictures are decoded in another batch, which rounds otherwise.
    torch.testing.assert_close(drawn[:1], whole.prompt(**prompt), atol=1e-4, rtol=0)
    again = whole.continue_(torch.stack(frames), 12, Sampling(), seed=3)
    assert torch.equal(again, whole.continue_(frames, 12, Sampling(), seed=3))
    assert not torch.equal(again, whole.continue_(frames, 12, Sampling(), seed=4))
    with pytest.raises(ValueError, match="0 frames are no row to continue: give at least one"):
        whole.continue_([])
    with pytest.raises(ValueError, match="0 images after 3 are no row to draw"):
        whole.continue_(frames, 0)


def test_a_wrong_vocabulary_is_refused(model: LVM):
    """The special ids must have room, and the message has the number that is right."""
    gpt = GPTConfig(vocab=32, length=130, width=16, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"gpt\.vocab is 32, but 32 codes and the special ids make 35"):
        LVM(LVMConfig(tokenizer=model.config.tokenizer, gpt=gpt))


def test_a_folder_gives_the_same_model_back(model: LVM, tmp_path: Path):
    """The same configuration, weights and answers; in bfloat16 half the size."""
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    found = LVM.from_pretrained(tmp_path / "whole")
    assert found.config == model.config
    assert torch.equal(found.prompt(**prompt_of(1)), model.prompt(**prompt_of(1)))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    assert LVM.from_pretrained(tmp_path / "half").gpt.embed.weight.dtype == torch.float32


def test_as_many_shots_as_fit(model: LVM):
    """The last image of a sentence needs no room for EOS: length 8 images takes three pairs and a query."""
    gpt = replace(model.config.gpt, length=8 * 16)
    assert LVM(LVMConfig(tokenizer=model.config.tokenizer, gpt=gpt)).shots == 3
    assert LVM(replace(model.config, gpt=replace(gpt, length=8 * 16 - 1))).shots == 2


def test_tokenizers_that_cannot_be_used_are_refused(model: LVM):
    """By name and reason, before anything is encoded or trained."""
    assert usable(model.tokenizer, "mine") is model.tokenizer
    table = VQConfig(codes=8, width=8)
    small = MaskGITConfig(quantizer=table, size=16, channels=8, multipliers=(1,), groups=4)
    with pytest.raises(ValueError, match="mine is a MaskGITTokenizer, not of the VQGAN family"):
        usable(MaskGITTokenizer(small), "mine")
    stages = replace(model.config.tokenizer, quantizer=ResidualVQConfig(codes=8, width=4, stages=2))
    with pytest.raises(ValueError, match="mine has 2 ids for each code"):
        usable(VQTokenizer(stages), "mine")


@pytest.mark.parametrize("quantizer", [FSQConfig(levels=(5, 3)), LFQConfig(bits=4)])
def test_any_quantizer_with_one_id_a_code_will_do(model: LVM, quantizer: object):
    """Codes that are no table start the embeddings as well."""
    tokenizer = VQTokenizer(replace(model.config.tokenizer, quantizer=quantizer))
    gpt = GPT(replace(model.config.gpt, vocab=tokenizer.vocab + 3))
    before = gpt.embed.weight.detach().clone()
    seed_embeddings(gpt, usable(tokenizer, "mine"), seed=0)
    assert not torch.equal(gpt.embed.weight[:-3], before[:-3])


def test_its_tokenizer_loads_alone(model: LVM, tmp_path: Path):
    """Encoding more pairs for a model takes its own folder: the tokenizer inside gives the same codes."""
    model.save_pretrained(tmp_path)
    tokenizer, images = load_tokenizer(tmp_path), torch.stack(pictures(2))
    assert fingerprint(tokenizer) == fingerprint(model.tokenizer)
    assert torch.equal(tokenizer.encode(images), model.tokenizer.encode(images))
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["tokenizer"]["sise"] = 64
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="sise"):
        load_tokenizer(tmp_path)


def test_codes_that_look_alike_start_alike(model: LVM):
    """Embeddings of close codes are closer than those of opposite ones; special ids are left as they were."""
    gpt = GPT(model.config.gpt)
    before = gpt.embed.weight.detach().clone()
    seed_embeddings(gpt, model.tokenizer, seed=0)
    book = torch.nn.functional.normalize(model.tokenizer.quantize.codebook(), dim=1)
    moved = (gpt.embed.weight - before).detach()[:32]
    alike, alike_rows = torch.pdist(book), torch.pdist(moved)
    assert torch.corrcoef(torch.stack([alike, alike_rows]))[0, 1] > 0.8
    assert torch.equal(gpt.embed.weight[32:], before[32:])
