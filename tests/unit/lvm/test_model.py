"""LVM: prompts that fit, prompts that are refused, and folders it comes back from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lvm.model import LVM, LVMConfig, seed_embeddings, usable
from vqtok.gpt.config import GPTConfig
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
    with pytest.raises(ValueError, match="4 pairs are too many, 3 fit before a query: leave some out"):
        model.prompt(**prompt_of(4))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_picture_of_another_size_is_refused(model: LVM, place: int):
    """Whichever it is, the message says which one, its shape, what is expected and how to read it so."""
    images = pictures(3)
    images[place] = pictures(1, size=32)[0]
    told = rf"picture {place + 1} of the prompt is \(3, 32, 32\), this model sees \(3, 64, 64\): read it with"
    with pytest.raises(ValueError, match=told):
        model.prompt([(images[0], images[1])], images[2])


def test_a_picture_outside_the_range_is_refused(model: LVM):
    """Pixels from 0 to 255 are told to be divided."""
    with pytest.raises(ValueError, match="divide by 255"):
        model.prompt([], pictures(1)[0] * 255)


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
