"""Encoding pictures with captions: captions lie beside the rows, in their order, however it went."""

import hashlib
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vqtok.data.captions import FILE, Captioned
from vqtok.data.pairing import NO_CAPTION, NO_PICTURE
from vqtok.data.pictures import read_picture, write_picture
from vqtok.tokenizers import encode as encoding
from vqtok.tokenizers.encode import Job, encode, main
from vqtok.tokenizers.tokenizer import VQTokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.* pairs, .* left out")


@pytest.fixture
def job(tokenizer: VQTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Eleven captioned pictures of 24x20 pixels in shards of four, one picture and one caption alone."""
    tokenizer.save_pretrained(tmp_path / "model")
    folder = tmp_path / "pictures"
    for number in range(11):
        image = torch.rand(3, 24, 20, generator=torch.Generator().manual_seed(number))
        write_picture(folder / f"{number % 2}" / f"{number:02}.png", image)
        (folder / f"{number % 2}" / f"{number:02}.txt").write_text(f"number {number}\n")
    write_picture(folder / "alone.png", torch.zeros(3, 8, 8))
    (folder / "text.txt").write_text("about nothing")
    monkeypatch.setattr(encoding, "SHARD", 4)
    source, out = f"folder:{folder}", tmp_path / "shards"
    return Job(
        tokenizer=str(tmp_path / "model"), captions=source, out=out, batch=3, decoders=0, tolerate=0.3
    )


def digests(folder: Path) -> dict[str, str]:
    """File -> hash of its bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def spoil(job: Job, *names: str) -> None:
    """Cut pictures short."""
    for name in names:
        path = Path(job.captions.removeprefix("folder:")) / name
        path.write_bytes(path.read_bytes()[:-300])


def test_captions_stand_with_their_rows(job: Job, tokenizer: VQTokenizer):
    """Row by row the ids of the picture and its caption, also where a picture between has no row."""
    spoil(job, "0/04.png", "1/07.png")
    encode(job)
    found = Captioned(job.out)
    assert len(found) == 9
    for index, (ids, caption) in enumerate(found):
        name = found.name(index)
        assert caption == f"number {int(name[2:4])}"
        image = read_picture(Path(job.captions.removeprefix("folder:")) / name, 16)
        assert torch.equal(ids, tokenizer.encode(image[None]).flatten())


def test_what_is_left_out_is_told(job: Job):
    """Missing halves and unreadable pictures, with reasons, however often the job is started."""
    spoil(job, "0/04.png")
    for _ in range(2):
        told = encode(job)
        assert told.pop("0/04.png").startswith("picture that cannot be read: ")
        assert told == {"alone.png": NO_CAPTION, "text.txt": NO_PICTURE}


def test_too_much_left_out(job: Job):
    """Missing halves and unreadable pictures count together; before anything is encoded where they can."""
    with pytest.raises(ValueError, match="2 of 13 are no pairs, 1 are tolerated"):
        encode(replace(job, tolerate=0.01))
    assert not job.out.exists()
    spoil(job, "0/00.png", "1/09.png")
    with pytest.raises(ValueError, match="4 of 13 are no pairs, 3 are tolerated"):
        encode(replace(job, tolerate=0.2))


@pytest.mark.parametrize("change", [{"decoders": 1}, {"batch": 64}])
def test_decoders_and_batches_change_no_byte(job: Job, change: dict):
    """Pictures that are decoded ahead or encoded in other company have the same ids and captions."""
    spoil(job, "0/04.png")
    encode(job)
    encode(replace(job, out=job.out.with_name("other"), **change))
    assert digests(job.out.with_name("other")) == digests(job.out)


def test_processes_share_a_job_and_go_on(job: Job):
    """Processes in any order, and one that was stopped, write what one writes alone."""
    encode(job)
    straight = digests(job.out)
    assert sum(name.endswith(FILE) for name in straight) == 3
    shutil.rmtree(job.out)
    for worker in (1, 0):
        encode(replace(job, worker=worker, workers=2))
    assert digests(job.out) == straight
    shutil.rmtree(job.out / "00001")
    encode(job)
    assert digests(job.out) == straight


def test_other_captions_are_another_job(job: Job):
    """A caption that changed since is refused, and nothing is written."""
    encode(job)
    before = digests(job.out)
    (Path(job.captions.removeprefix("folder:")) / "0" / "02.txt").write_text("another")
    with pytest.raises(ValueError, match="was made with files .*: give another --out, or remove"):
        encode(job)
    assert digests(job.out) == before


def test_tars_and_emoji(job: Job, tmp_path: Path):
    """A tar of the same files gives the same ids and captions; the embedded emoji are encoded too."""
    encode(job)
    folder = Path(job.captions.removeprefix("folder:"))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.add(path, path.relative_to(folder))
    encode(replace(job, captions=f"tar:{tmp_path}/*.tar", out=tmp_path / "tar"))
    both = zip(Captioned(job.out), Captioned(tmp_path / "tar"), strict=True)
    assert all(torch.equal(one[0], other[0]) and one[1] == other[1] for one, other in both)
    encode(replace(job, captions="emoji:train:6", out=tmp_path / "emoji"))
    assert len(Captioned(tmp_path / "emoji")) == 6


def test_one_source(job: Job):
    """Galleries and captions are not given together, nor neither of them."""
    for change in ({"data": "my/pictures"}, {"captions": None}):
        with pytest.raises(ValueError, match="pictures come from data, or with captions from captions"):
            replace(job, **change)


def test_command(job: Job, capsys: pytest.CaptureFixture[str]):
    """What was left out, one by one and counted by reason, and where the shards are."""
    words = ["--captions", job.captions, "--tokenizer", job.tokenizer, "--out", job.out, "--tolerate", 0.3]
    main([str(word) for word in words])
    progress, *told, result = capsys.readouterr().out.splitlines()
    assert progress.startswith("image 11/11") and result.endswith("token shards, 2 pairs left out")
    assert told == [
        "left out alone.png: picture without a caption",
        "left out text.txt: caption without a picture",
        "1 x picture without a caption",
        "1 x caption without a picture",
    ]


def test_help(capsys: pytest.CaptureFixture[str]):
    """The command tells the sources."""
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--captions SOURCE" in told and "folder:PATH" in told and "hub:NAME[:SPLIT]" in told
