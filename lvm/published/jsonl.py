"""Visual sentences in the files of LVM's own trainer, as token shards of ours, and back.

A line is a record, and a record is a sentence: `{"tokens": ...}`, base64 of its ids as little-endian int32,
image after image, with nothing around them. The files say neither what task a sentence is of nor how its
images belong together, so whoever imports one says both. Bai et al. 2023 (LVM), DATASET.md of
github.com/ytongbai/LVM.

Letters: s records, i images of a record, t tokens of an image, r rows, u images of a row.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from lvm.forms import PAIRS, SINGLE, Form, annotated, groups, sequence
from lvm.model import usable
from vqtok.data.shards import write_shard
from vqtok.storage.folders import publish, write_file
from vqtok.tokenizers.fingerprint import fingerprint
from vqtok.tokenizers.loading import load_tokenizer
from vqtok.tokenizers.tokenizer import VQTokenizer

KEY = "tokens"
TYPE = np.dtype("<i4")
SHARD = 1000  # rows
FORMS: dict[str, tuple[int, Callable[..., Form]]] = {  # name -> numbers it wants, and the form of these
    "single": (0, lambda: SINGLE),
    "pairs": (0, lambda: PAIRS),
    "sequence": (1, sequence),
    "annotated": (1, annotated),
    "groups": (2, groups),
}


def form_of(words: str) -> Form:
    """The form that a user names: single, pairs, sequence:16, annotated:8, groups:4:4.

    The numbers are images a row (frames, where they are annotated), then rows a sentence. There is no
    `modalities`: records of several views of a scene have each an order of their own, which rows of other
    records do not share, so import them whole, as a sequence.

    Raises:
        ValueError: if there is no such form, or it wants other numbers.
    """
    name, *numbers = words.split(":")
    wanted, make = FORMS.get(name, (-1, None))
    if len(numbers) != wanted or not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"form {words!r} is none: give single, pairs, sequence:FRAMES, annotated:FRAMES or "
            "groups:IMAGES:ROWS, such as groups:4:4"
        )
    return make(*map(int, numbers))


def import_jsonl(source: str | Path, folder: str | Path, tokenizer: str, task: str, form: Form) -> str:
    """Write one file's sentences as a folder of token shards, whole or not at all.

    Records are divided into rows: one of 16 images of pairs becomes 8 rows, which training puts together
    anew. A row that was there before, as in records of the same pairs in other orders, is left out, since
    else a sentence could show its last answer, and training what is held out.

    Args:
        source: The file; it is read line by line.
        folder: Receives a folder named after the task, so that it may hold several tasks.
        tokenizer: Folder or hub id of the one that made the ids; the file cannot tell.
        task: Its name.
        form: How a row's images belong together.

    Returns:
        One line about what was written.

    Raises:
        ValueError: naming the line that is damaged, cut, holds an id that is no code, or images that make no
            whole rows; or if there is no line at all, or the tokenizer cannot be used.
        FileExistsError: if the task's folder is there already.
    """
    images = usable(load_tokenizer(tokenizer), tokenizer)
    facts = {
        "task": task,
        "form": form.facts(),
        "members": 1,
        "tokenizer": fingerprint(images),
        "source": Path(source).name,
        "pictures": None,
        "tokens": images.tokens,
    }  # a row, a picture
    counts: Counter[str] = Counter()
    first = 0
    with publish(Path(folder) / re.sub(r"[\s/]+", "-", task)) as part:
        rows = _distinct(_rows(source, form, images, counts))
        while shard := [*islice(rows, SHARD)]:
            told = {"first": first, "rows": len(shard)}
            write_shard(part / f"{first // SHARD:05d}", np.stack(shard), images.vocab, facts | told)
            first += len(shard)
        if not first:
            raise ValueError(f"{source} holds no sentence: give a file with one a line")
    return (
        f"{form.name} of task {task!r}: {first:,} rows of {form.images} images from {counts['records']:,} "
        f"sentences, {counts['rows'] - first:,} rows left out that were there already"
    )


def read_jsonl(source: str | Path) -> Iterator[tuple[int, np.ndarray]]:
    """Number of the line, from 1, and ids (i t,) int32 of every sentence of a file; empty lines are none.

    Raises:
        ValueError: naming the line that is no record, or was cut.
    """
    with open(source, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _record(line, f"{source}, line {number}")


def write_jsonl(target: str | Path, sentences: Iterable[ArrayLike]) -> None:
    """Write sentences, each the ids of whole images, for LVM's own trainer; the file appears whole."""
    lines = (json.dumps({KEY: base64.b64encode(np.asarray(ids).astype(TYPE).tobytes()).decode()}) + "\n"
             for ids in sentences)  # fmt: skip
    write_file(target, "".join(lines).encode())


def _record(line: bytes, where: str) -> np.ndarray:
    """(i t,) ids of one line."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: is the file cut, or of another kind?") from error
    text = record.get(KEY) if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{where} has no text under {KEY!r}: a record is {{{KEY!r}: base64 of int32}}")
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:  # also of text that is not ASCII
        raise ValueError(f"{where} is no base64: {error}") from error
    if len(raw) % TYPE.itemsize or not raw:
        raise ValueError(f"{where} has {len(raw)} bytes, no whole int32: was it cut? write it again")
    return np.frombuffer(raw, TYPE)


def _rows(source: str | Path, form: Form, images: VQTokenizer, counts: Counter[str]) -> Iterator[np.ndarray]:
    """All rows (u t,) of a file, counted."""
    width = form.images * images.tokens
    for number, ids in read_jsonl(source):
        where = f"{source}, line {number}"
        outside = ids[(ids < 0) | (ids >= images.vocab)]
        if len(outside):
            raise ValueError(
                f"{where} holds id {outside[0]}, codes are 0 to {images.vocab - 1}: give the tokenizer that "
                "made it, and sentences without ids of your own"
            )
        if len(ids) % images.tokens:
            raise ValueError(
                f"{where} has {len(ids)} ids, no whole number of images of {images.tokens}: give the "
                "tokenizer that made it, or write it again if it was cut"
            )
        if len(ids) % width:
            raise ValueError(
                f"{where} has {len(ids) // images.tokens} images, no whole number of rows of {form.images} "
                f"({form.name}): give the form that the file has"
            )
        counts.update(records=1, rows=len(ids) // width)
        yield from ids.reshape(-1, width)


def _distinct(rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Each row once; 16 bytes of every one are remembered."""
    seen: set[bytes] = set()
    for row in rows:
        mark = blake2b(row.tobytes(), digest_size=16).digest()
        if mark not in seen:
            seen.add(mark)
            yield row
