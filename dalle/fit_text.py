"""Fits a text tokenizer to captions, a matter of seconds; the same captions give the same bytes.

    accelerate launch -m dalle.fit_text --config recipes/text/emoji.yaml

Ramesh et al. 2021, section 2.2: BPE with 16,384 ids over captions in small letters.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from vqtok.data.captions import SOURCES, open_captions
from vqtok.data.pairing import EMPTY
from vqtok.storage.folders import write_file
from vqtok.storage.manifests import sha256
from vqtok.text.corpus import read_captions
from vqtok.text.tokenizer import NONE, TextConfig, TextTokenizer
from vqtok.training.config import launch

REPORT = "fit.json"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A text tokenizer's fit.

    Args:
        folder: Receives `model/` and fit.json.
        data: Captions: a UTF-8 file with one a line, a folder of such files named *.txt, or pictures with
            captions, by a word of `vqtok.data.captions`.
        text: Number of ids, and how words are cut.
    """

    folder: Path
    data: str
    text: TextConfig = field(default_factory=TextConfig)


def train(config: TrainConfig) -> TextTokenizer | None:
    """Fit a text tokenizer; on several processes the first does it all, and only it returns the tokenizer.

    Raises:
        ValueError: if there are no captions, too few for so many ids, or the folder holds another fit.
    """
    if not PartialState().is_main_process:
        return None
    captions, blank = captions_of(config.data)
    text = config.text
    facts = {"captions": len(captions), "sha256": sha256("\n".join(captions).encode())}
    facts |= {"kind": text.kind, "vocab": text.vocab, "lower": text.lower, "coverage": text.coverage}
    _refuse_another(config.folder / REPORT, facts)
    tokenizer = TextTokenizer.fit(captions, text)
    tokenizer.save_pretrained(config.folder / "model")
    report = {"data": config.data, "blank": blank} | facts | measured(tokenizer, captions)
    write_file(config.folder / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    tokens = f"{report['tokens_mean']:.2f} tokens a caption, {report['tokens_most']} at most"
    print(f"{config.folder}/model: {tokenizer.vocab:,} ids from {len(captions):,} captions, {tokens}")
    return tokenizer


def captions_of(data: str) -> tuple[list[str], int]:
    """Captions to fit to, and how many there were that are empty.

    Raises:
        ValueError: if there are none, or too many of a source's are none.
    """
    if data.partition(":")[0] not in SOURCES:
        return read_captions(data)
    pairs = open_captions(data)
    return [pairs.caption(index) for index in range(len(pairs))], pairs.left_out.counts[EMPTY]


def measured(tokenizer: TextTokenizer, captions: list[str]) -> dict[str, Any]:
    """How captions come out: how many tokens, and so the length that a layout needs, and what is unknown."""
    texts = tokenizer.encode(captions)
    tokens = (texts.ids != NONE).sum(1).numpy()
    characters = sum(len(tokenizer.normalized(caption)) for caption in captions)
    return {
        "unknown": texts.unknown,
        "tokens_mean": round(float(tokens.mean()), 3),
        "tokens_99th": int(np.quantile(tokens, 0.99, method="higher")),
        "tokens_most": int(tokens.max()),
        "characters_per_token": round(characters / int(tokens.sum()), 3),
    }


def _refuse_another(report: Path, facts: dict[str, Any]) -> None:
    """Raise a ValueError if the folder holds the fit of other captions or settings: models may rest on it."""
    if not report.is_file():
        return
    theirs = json.loads(report.read_text(encoding="utf-8"))
    for name, value in facts.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{report.parent} holds a fit with {name} {theirs.get(name)!r}, this one has {value!r}: give "
                "another folder, or remove that one"
            )


if __name__ == "__main__":
    launch(train, TrainConfig)
