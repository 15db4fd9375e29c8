"""Encoding a folder: rows are the pictures' ids, the bytes are the same however it went."""

import hashlib
import os
import re
import shutil
import signal
import struct
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vqtok.data.galleries import open_gallery
from vqtok.data.pictures import read_picture, write_picture
from vqtok.data.shards import Shards
from vqtok.storage import folders
from vqtok.tokenizers import encode as encoding
from vqtok.tokenizers.encode import Job, encode, main
from vqtok.tokenizers.quantizers.residual import ResidualVQConfig
from vqtok.tokenizers.tokenizer import TokenizerConfig, VQTokenizer


@pytest.fixture
def job(tokenizer: VQTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Eleven pictures of 24x20 pixels in shards of four, two at a time."""
    tokenizer.save_pretrained(tmp_path / "model")
    for number in range(11):
        image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(number))
        write_picture(tmp_path / "pictures" / f"{number % 2}" / f"{number:02}.png", image)
    monkeypatch.setattr(encoding, "SHARD", 4)
    return Job(
        tokenizer=str(tmp_path / "model"),
        data=tmp_path / "pictures",
        out=tmp_path / "shards",
        batch=2,
        decoders=0,
        tolerate=0.2,
    )


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def spoil(job: Job, *names: str) -> None:
    """Cut pictures short."""
    for name in names:
        path = job.data / name
        path.write_bytes(path.read_bytes()[:-300])


def test_rows_are_the_ids_of_the_pictures(job: Job, tokenizer: VQTokenizer):
    """Row by row the ids of the picture that the manifest names, cut to the tokenizer's size; with grid."""
    assert encode(job) == {}
    shards = Shards(job.out)
    assert (len(shards), shards.vocab, shards.width) == (11, 32, 16)
    names = [name for facts in shards.facts for name in facts["names"]]
    assert names == sorted(path.relative_to(job.data).as_posix() for path in job.data.rglob("*.png"))
    for index, name in enumerate(names):
        ids = tokenizer.encode(read_picture(job.data / name, 16)[None])[0]
        assert torch.equal(shards[index].view(shards.facts[0]["grid"]), ids)


@pytest.mark.parametrize("change", [{"decoders": 2}, {"batch": 3}, {"batch": 64, "decoders": 1}])
def test_decoders_and_batches_change_no_byte(job: Job, change: dict):
    """Pictures that are decoded ahead or encoded in other company have the same ids."""
    spoil(job, "0/04.png")
    encode(job)
    straight = digests(job.out)
    encode(replace(job, out=job.out.with_name("other"), **change))
    assert digests(job.out.with_name("other")) == straight


@pytest.mark.parametrize("moment", [1, 2, 4, 7, 8, 10, 12, 15])
def test_kill_9(job: Job, moment: int, monkeypatch: pytest.MonkeyPatch):
    """Killed by SIGKILL at any flush to the disk, the job leaves whole shards, and ends in the same bytes."""
    spoil(job, "1/07.png")
    encode(job)
    straight = digests(job.out)
    shutil.rmtree(job.out)
    assert killed(job, moment, monkeypatch)
    shards = [path for path in job.out.iterdir() if not folders.TEMPORARY.fullmatch(path.name)]
    assert all((path / name).is_file() for path in shards for name in ("rows.bin", "manifest.json"))
    encode(job)
    assert digests(job.out) == straight


def killed(job: Job, moment: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a child that encodes was killed, as it is meant to be at its `moment`th flush."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    try:
        count, flush = iter(range(1, 1000)), folders.flush

        def fatal(path: Path) -> None:
            if next(count) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        monkeypatch.setattr(folders, "flush", fatal)
        encode(job)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def test_processes_share_a_job(job: Job):
    """Three processes in any order write what one writes; each makes its own shards only."""
    spoil(job, "0/02.png")
    encode(job)
    straight = digests(job.out)
    shutil.rmtree(job.out)
    for worker, made in ((2, {"00002"}), (0, {"00000", "00002"}), (1, {"00000", "00001", "00002"})):
        encode(replace(job, worker=worker, workers=3))
        assert {path.name for path in job.out.iterdir()} == made
    assert digests(job.out) == straight
    with pytest.raises(ValueError, match="worker 3 is not one of 3"):
        replace(job, worker=3, workers=3)


def test_unreadable_pictures_are_listed(job: Job):
    """They have no row; the manifest of their shard has their reasons; a shard may be without rows."""
    spoil(job, "1/05.png", "1/07.png", "1/09.png")
    skipped = encode(replace(job, tolerate=0.3))
    assert {*skipped} == {"1/05.png", "1/07.png", "1/09.png"} and "truncated" in str(skipped).lower()
    shards = Shards(job.out)
    assert [len(facts["names"]) for facts in shards.facts] == [4, 4, 0] and len(shards) == 8
    assert {name for facts in shards.facts for name in facts["skipped"]} == {*skipped}
    assert encode(replace(job, tolerate=0.3)) == skipped


def test_too_many_unreadable_pictures(job: Job):
    """More than tolerated stop the job, counted over shards and processes; shards before stay whole."""
    spoil(job, "0/00.png", "0/06.png", "1/01.png", "1/05.png")
    told = r"4 of 11 pictures under .* cannot be read, 3 are tolerated: .*1/05.png: "
    with pytest.raises(ValueError, match=f"(?s){told}"):
        encode(job)
    assert len(Shards(job.out)) == 8 - 3 and {path.name for path in job.out.iterdir()} == {"00000", "00001"}
    with pytest.raises(ValueError, match=f"(?s){told}"):
        encode(replace(job, worker=2, workers=3))
    assert len(encode(replace(job, tolerate=0.4))) == 4


def test_other_jobs_are_refused(job: Job, tokenizer: VQTokenizer, tmp_path: Path):
    """Another tokenizer, size, fit or other pictures are named with both values, and nothing is written."""
    encode(job)
    before = digests(job.out)
    with torch.no_grad():
        tokenizer.encoder.conv_in.weight.add_(0.1)
    tokenizer.save_pretrained(tmp_path / "other")
    changes = {
        "tokenizer": {"tokenizer": str(tmp_path / "other")},
        "size '16', this job has '20'": {"size": 20},
        "fit 'crop', this job has 'pad'": {"fit": "pad"},
    }
    for told, change in changes.items():
        with pytest.raises(ValueError, match=f"was made with {told}.*: give another --out, or remove"):
            encode(replace(job, **change))
    write_picture(job.data / "0" / "00.png", torch.zeros(3, 24, 20))
    with pytest.raises(ValueError, match="was made with files"):
        encode(job)
    write_picture(job.data / "2.png", torch.zeros(3, 24, 20))
    with pytest.raises(ValueError, match="was made with pictures '11', this job has '12'"):
        encode(job)
    assert digests(job.out) == before


def test_classes_travel_along(job: Job, tokenizer: VQTokenizer):
    """The folder a picture lies in is its class, and stands in the manifest, picture by picture."""
    spoil(job, "1/05.png")
    encode(job)
    for facts in Shards(job.out).facts:
        assert facts["labels"] == [name.partition("/")[0] for name in facts["names"]]
    shutil.rmtree(job.out)
    write_picture(job.data / "2.png", torch.zeros(3, 24, 20))
    encode(job)
    assert not any("labels" in facts for facts in Shards(job.out).facts)


def test_emoji_and_idx_files(job: Job, tokenizer: VQTokenizer, tmp_path: Path):
    """Any gallery can be encoded; its images have ids, names and classes."""
    encode(replace(job, data="emoji:validation:6"))
    shards = Shards(job.out)
    gallery = open_gallery("emoji:validation:6", 16)
    assert len(shards) == 6 and shards.facts[1]["names"] == [gallery.name(4), gallery.name(5)]
    assert shards.facts[1]["labels"] == [gallery.label(4), gallery.label(5)]
    image = (gallery[5] * 255).round() / 255
    assert torch.equal(shards[5], tokenizer.encode(image[None]).flatten())
    for name, shape in (("images-idx3", (3, 4, 4)), ("labels-idx1", (3,))):
        data = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
        (tmp_path / f"t-{name}-ubyte").write_bytes(data + bytes(torch.Size(shape).numel()))
    encode(replace(job, data=tmp_path / "t-images-idx3-ubyte", out=tmp_path / "gray"))
    assert Shards(tmp_path / "gray").facts[0]["labels"] == ["0", "0", "0"]


def test_several_ids_a_code(job: Job, config: TokenizerConfig, tmp_path: Path):
    """Rows of a residual quantizer hold all ids of a code, and `grid` gives them back their shape."""
    tokenizer = VQTokenizer(replace(config, quantizer=ResidualVQConfig(stages=3, codes=32, width=4))).eval()
    tokenizer.save_pretrained(tmp_path / "residual")
    encode(replace(job, tokenizer=str(tmp_path / "residual"), size=24, fit="pad"))
    shards = Shards(job.out)
    assert shards.facts[0]["grid"] == [6, 6, 3] and shards.width == 108
    image = read_picture(job.data / shards.facts[0]["names"][1], 24, fit="pad")
    assert torch.equal(shards[1].view(6, 6, 3), tokenizer.encode(image[None])[0])


def test_command(job: Job, capsys: pytest.CaptureFixture[str]):
    """Progress with rate and time left, then what was left out, and where the shards are."""
    spoil(job, "0/04.png")
    words = ["--data", job.data, "--tokenizer", job.tokenizer, "--out", job.out, "--decoders", 0]
    main([str(word) for word in words])
    progress, skipped, result = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"image 11/11  [\d,]+ samples/s  0:00:00 left", progress)
    assert skipped.startswith("left out 0/04.png: ") and result.endswith(" 1 pictures left out")
