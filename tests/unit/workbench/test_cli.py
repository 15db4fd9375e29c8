"""The command line: fast help, options that reach their function, mistakes in one line."""

import errno
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from workbench import cli

HEAVY = {"torch", "torchvision", "timm", "torchmetrics", "transformers", "accelerate", "numpy", "PIL"}


def put(monkeypatch: pytest.MonkeyPatch, module: str, **content: object) -> None:
    """Stand a module with this content in the place of the real one."""
    stand_in = ModuleType(module)
    stand_in.__dict__.update(content)
    monkeypatch.setitem(sys.modules, module, stand_in)


def test_help_imports_nothing_heavy():
    """`vqtok --help` stays under half a second because no heavy library is imported for it."""
    code = (
        "import sys; from workbench.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "VERB" in ran.stdout
    assert not HEAVY & {*ran.stderr.split()}


VERBS = ["train", "encode", "evaluate", "prompt", "sample", "complete", "probe", "import", "compare", "demo"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_listed(verb: str, capsys: pytest.CaptureFixture[str]):
    """`vqtok --help` names each verb."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    assert f"\n    {verb} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "module"),
    [
        (["encode"], "vqtok.tokenizers.encode"),
        (["evaluate", "lvm"], "workbench.shots"),
        (["evaluate", "imagegpt"], "imagegpt.evaluate"),
        (["evaluate", "dalle"], "dalle.evaluate"),
        (["evaluate", "protocols"], "lvm.protocols.evaluate"),
        (["probe"], "workbench.probe"),
        (["evaluate", "tokenizer"], "vqtok.tokenizers.evaluate"),
    ],
)
@pytest.mark.parametrize("rest", [["--lr.peak", "-1", "--help"], []])
def test_options_are_passed_on(
    argv: list[str], module: str, rest: list[str], monkeypatch: pytest.MonkeyPatch
):
    """What follows the verb reaches the module behind it unchanged, --help included."""
    received = []
    put(monkeypatch, module, main=received.append)
    assert cli.main([*argv, *rest]) == 0
    assert received == [rest]


@pytest.mark.parametrize("rest", [["--pairs", "9", "--out", "a"], ["--out", "a", "--pairs=9"]])
def test_pairs_are_the_lvms(rest: list[str], monkeypatch: pytest.MonkeyPatch):
    """`vqtok encode` with --pairs encodes the LVM's pairs, where without it plain images are encoded."""
    received = []
    put(monkeypatch, "lvm.encode", main=received.append)
    assert cli.main(["encode", *rest]) == 0
    assert received == [rest]


def test_train_gets_the_recipe_and_the_overrides(monkeypatch: pytest.MonkeyPatch):
    """`vqtok train RECIPE --a 1` trains RECIPE with --a 1."""
    received = []
    monkeypatch.setattr("workbench.recipes.run", lambda *arguments: received.append(arguments))
    assert cli.main(["train", "a.yaml", "--lr.peak", "1e-4"]) == 0
    assert received == [(Path("a.yaml"), ["--lr.peak", "1e-4"])]


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_help_before_the_subject_is_the_verbs_own(verb: str, capsys: pytest.CaptureFixture[str]):
    """`vqtok train --help` explains the verb; naming nothing at all is refused."""
    assert cli.main([verb, "--help"]) == 0
    assert f"usage: vqtok {verb}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([verb])
    assert stop.value.code == 2


def test_import_says_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Source, folder and what the files do not tell arrive; what was found and where it lies is printed."""
    received = []

    def stand_in(*arguments: object) -> str:
        received.append(arguments)
        return "taming VQGAN: 16 codes"

    put(monkeypatch, "vqtok.tokenizers.loading", import_tokenizer=stand_in)
    put(monkeypatch, "imagegpt.published", import_imagegpt=None, is_imagegpt=lambda source: False)
    put(monkeypatch, "lvm.published", import_lvm=None, is_lvm=lambda source: False)
    put(monkeypatch, "diffusion.published.pipelines", import_ddpm=None, is_diffusers=lambda source: False)
    assert cli.main(["import", "last.ckpt", "ours"]) == 0
    assert cli.main(["import", "some/where", "ours", "--size", "512", "--low", "0"]) == 0
    assert received == [("last.ckpt", Path("ours"), None, None), ("some/where", Path("ours"), 512, 0.0)]
    assert capsys.readouterr().out == "taming VQGAN: 16 codes\nours\n" * 2


def test_import_knows_imagegpts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """They go to the family, with their palette."""
    received = []
    importer = lambda *arguments: received.append(arguments) or "ImageGPT: 24 layers"  # noqa: E731
    put(monkeypatch, "vqtok.tokenizers.loading", import_tokenizer=None)
    put(monkeypatch, "imagegpt.published", import_imagegpt=importer, is_imagegpt=lambda source: True)
    put(monkeypatch, "lvm.published", import_lvm=None, is_lvm=lambda source: False)
    put(monkeypatch, "diffusion.published.pipelines", import_ddpm=None, is_diffusers=None)
    assert cli.main(["import", "igpt.npz", "ours", "--palette", "colors.npy"]) == 0
    assert received == [("igpt.npz", Path("ours"), "colors.npy")]
    assert capsys.readouterr().out == "ImageGPT: 24 layers\nours\n"


def test_import_knows_lvms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """They are recognized, or told by having a tokenizer named, which goes with them."""
    received = []
    importer = lambda *arguments: received.append(arguments) or "LVM: 32 layers"  # noqa: E731
    put(monkeypatch, "vqtok.tokenizers.loading", import_tokenizer=None)
    put(monkeypatch, "imagegpt.published", import_imagegpt=None, is_imagegpt=None)
    put(monkeypatch, "lvm.published", import_lvm=importer, is_lvm=lambda source: source == "llama")
    put(monkeypatch, "diffusion.published.pipelines", import_ddpm=None, is_diffusers=None)
    assert cli.main(["import", "llama", "ours"]) == 0
    assert cli.main(["import", "params.pkl", "ours", "--tokenizer", "muse"]) == 0
    assert received == [("llama", Path("ours"), None), ("params.pkl", Path("ours"), "muse")]
    assert capsys.readouterr().out == "LVM: 32 layers\nours\n" * 2


def test_import_knows_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A .jsonl goes to its reader with what it does not say; leaving that out is refused."""
    received = []
    importer = lambda *places, **named: received.append((*places, named)) or "pairs: 8 rows"  # noqa: E731
    put(monkeypatch, "lvm.published.jsonl", import_jsonl=importer, form_of=str.upper)
    words = ["import", "data.jsonl", "ours", "--task", "depth", "--form", "pairs"]
    assert cli.main([*words, "--tokenizer", "muse"]) == 0
    assert received == [("data.jsonl", Path("ours"), {"tokenizer": "muse", "task": "depth", "form": "PAIRS"})]
    assert capsys.readouterr().out == "pairs: 8 rows\nours\n"
    assert cli.main(words) == 2
    assert "data.jsonl does not say what is in it: give --tokenizer" in capsys.readouterr().err
    assert cli.main(["import", "last.ckpt", "ours", "--task", "depth"]) == 2
    assert "last.ckpt is no .jsonl of LVM: leave --task and --form out" in capsys.readouterr().err


CHOICES = ("guidance", "temperature", "top_k", "top_p", "sampler", "steps", "caption")


def drawn(monkeypatch: pytest.MonkeyPatch, words: str) -> list:
    """What reaches the function behind the verb, the drawer told as the model's name and its choices."""
    received = []
    put(monkeypatch, "workbench.drawers", Choices=dict, drawer=lambda model, choices: (model, choices))
    call = lambda *arguments, **named: received.extend([*arguments, named])  # noqa: E731
    put(monkeypatch, "workbench.drawing", sample=call, complete=call)
    assert cli.main(words.split()) == 0
    return received


@pytest.mark.parametrize(
    ("options", "told", "rest"),
    [
        ("", {}, [Path("samples.png"), 16, []]),
        (
            "--count 2 --class cat --class dog --guidance 2.5 --top-k 9 --seed 4 --out o.png",
            {"guidance": 2.5, "top_k": 9, "seed": 4},
            [Path("o.png"), 2, ["cat", "dog"]],
        ),
        ("--sampler heun --steps 9", {"sampler": "heun", "steps": 9}, [Path("samples.png"), 16, []]),
        ("--caption cat", {"caption": ["cat"]}, [Path("samples.png"), 16, ["cat"]]),
    ],
)
def test_sample_gets_its_options(options: str, told: dict, rest: list, monkeypatch: pytest.MonkeyPatch):
    """What is not asked for is None; classes, or captions, in order."""
    expected = dict.fromkeys(CHOICES) | {"seed": 0} | told
    assert drawn(monkeypatch, f"sample --model m {options}") == [("m", expected), *rest, {}]


@pytest.mark.parametrize(
    ("options", "choices", "told"),
    [
        ("", {}, {}),
        ("--rows 3 --candidates 2 --temperature 0.5", {"temperature": 0.5}, {"rows": 3, "candidates": 2}),
        ("--hole 1 2 3 4 --seed 5 --steps 7", {"seed": 5, "steps": 7}, {"hole": [1, 2, 3, 4]}),
        ("--caption cat", {"caption": ["cat"]}, {"captions": ["cat"]}),
    ],
)
def test_complete_gets_its_options(options: str, choices: dict, told: dict, monkeypatch: pytest.MonkeyPatch):
    """Pictures in order, rows or a hole, how many answers."""
    model = ("m", dict.fromkeys(CHOICES) | {"seed": 0} | choices)
    places = {"rows": None, "hole": None, "candidates": 3, "captions": []} | told
    found = drawn(monkeypatch, f"complete a.png b.png --model m {options}")
    assert found == [model, Path("completed.png"), [Path("a.png"), Path("b.png")], places]


def test_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch):
    """--quick and --out arrive, and have defaults."""
    received = []
    put(monkeypatch, "workbench.demo", demo=lambda **options: received.append(options))
    cli.main(["demo"])
    cli.main(["demo", "--quick", "--out", "there"])
    assert received == [
        {"out": Path("demo"), "quick": False},
        {"out": Path("there"), "quick": True},
    ]


@pytest.mark.parametrize(
    ("options", "candidates", "sampling"),
    [
        ([], 1, {"temperature": 0.0, "top_k": None, "top_p": None}),
        (["--candidates", "4"], 4, {"temperature": 1.0, "top_k": None, "top_p": None}),
        (["--top-k", "50"], 1, {"temperature": 1.0, "top_k": 50, "top_p": None}),
        (
            ["--candidates", "2", "--temperature", "0.7", "--top-k", "5", "--top-p", "0.9"],
            2,
            {"temperature": 0.7, "top_k": 5, "top_p": 0.9},
        ),
    ],
)
def test_prompt_gets_its_options(
    options: list[str], candidates: int, sampling: dict, monkeypatch: pytest.MonkeyPatch
):
    """Pairs in order, one greedy answer unless more or a cut are asked for, the shipped weights."""
    received = []
    model = SimpleNamespace(
        from_pretrained=lambda folder: SimpleNamespace(to=lambda device: f"model of {folder}")
    )
    put(monkeypatch, "lvm", DEFAULT_WEIGHTS="shipped", LVM=model)
    put(monkeypatch, "vqtok.gpt", Sampling=dict)
    functions = {name: lambda *rest: received.append(rest) for name in ("prompt", "continue_row")}
    put(monkeypatch, "workbench.prompt", Asking=dict, **functions)
    pairs = ["--pair", "a", "b", "--pair", "c", "d"]
    assert cli.main(["prompt", *pairs, "--query", "q", *options]) == 0
    asking = {"seed": 0, "ensemble": 1, "allowed": None, "task": None, "fit": "crop"}
    asking |= {"candidates": candidates, "sampling": sampling}
    both = [(Path("a"), Path("b")), (Path("c"), Path("d"))]
    assert received == [("model of shipped", both, Path("q"), Path("answer.png"), asking)]
    assert cli.main(["prompt", "--frames", "a", "b", "--count", "3", *options]) == 0
    assert received[1:] == [("model of shipped", [Path("a"), Path("b")], 3, Path("answer.png"), asking)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a prompt is --pair BEFORE AFTER, once or more, and --query PICTURE; or --frames"),
        (["--query", "q"], "a prompt is --pair BEFORE AFTER"),
        (["--pair", "a", "b"], "a prompt is --pair BEFORE AFTER"),
        (["--frames", "a", "--query", "q"], "--frames stand in the place of --pair and --query"),
        (["--pair", "a", "b", "--query", "q", "--count", "2"], "--count is of pictures behind --frames"),
    ],
)
def test_a_prompt_is_pairs_or_frames(words: list[str], message: str, capsys: pytest.CaptureFixture):
    """Neither half of one, nor both."""
    assert cli.main(["prompt", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_odd_picture_makes_no_pair(capsys: pytest.CaptureFixture):
    """`--pair` takes two."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prompt", "--pair", "a", "--query", "q"])
    assert stopped.value.code == 2 and "--pair: expected 2 arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("4 tokens\n  do not fit"), "4 tokens do not fit"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), "a.png: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (FileExistsError("runs/a exists: choose another"), "runs/a exists: choose another"),
    ],
)
def test_a_mistake_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Users' mistakes give `vqtok: error: ...` on stderr, nothing else, and exit code 2."""

    def fail(rest: list[str]) -> None:
        raise error

    put(monkeypatch, "vqtok.tokenizers.encode", main=fail)
    assert cli.main(["encode"]) == 2
    assert capsys.readouterr() == ("", f"vqtok: error: {line}\n")


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """With VQTOK_TRACEBACK the line that failed is shown before the mistake."""
    monkeypatch.setenv("VQTOK_TRACEBACK", "1")
    assert cli.main(["train", "nowhere.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("vqtok: error: nowhere.yaml")


def test_our_own_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch):
    """Anything but a ValueError or an OSError is not hidden."""

    def fail(rest: list[str]) -> None:
        raise KeyError("a bug")

    put(monkeypatch, "vqtok.tokenizers.encode", main=fail)
    with pytest.raises(KeyError):
        cli.main(["encode"])


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]):
    """A misspelt option of a verb that passes nothing on is named."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "--quik"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --quik" in capsys.readouterr().err


def test_a_recipe_behind_its_flags_is_refused(capsys: pytest.CaptureFixture[str]):
    """The value of a flag is not taken for the recipe without a word."""
    assert cli.main(["train", "--lr.peak", "1e-4", "recipes/lvm/emoji64.yaml"]) == 2
    assert capsys.readouterr().err == (
        "vqtok: error: 1e-4 stands where the recipe should: name the recipe first\n"
    )


def test_a_recipe_that_is_no_text_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Such as weights instead of a recipe: the file is named."""
    (tmp_path / "model.safetensors").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["train", str(tmp_path / "model.safetensors")]) == 2
    assert "model.safetensors is no text: name a YAML file" in capsys.readouterr().err


def test_a_missing_recipe_is_one_line(capsys: pytest.CaptureFixture[str]):
    """The file is named before anything slow happens."""
    assert cli.main(["train", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "vqtok: error: nowhere.yaml: No such file or directory\n"
