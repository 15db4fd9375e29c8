"""Recipes and flags become dataclasses; mistakes become one line with file, setting and way out."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vqtok.training import Diverged, LRConfig, OptimConfig, RunConfig, launch, parse

RECIPE = """
run: {folder: runs/x, seed: 3}
lr: {peak: 3e-4, warmup_steps: 2, steps: 10}
eval_steps: 5
"""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """One kind.

    Args:
        size: Entries.
    """

    size: int = 8


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Another kind.

    Args:
        levels: Values of each channel.
    """

    levels: tuple[int, ...] = (8, 8)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a run.

    Args:
        run: Where and how.
        lr: Learning rate.
        optim: AdamW.
        kind: One of two.
        extra: Left out by default.
        tasks: Names.
        eval_steps: Steps between evaluations.
    """

    run: RunConfig
    lr: LRConfig
    optim: OptimConfig = OptimConfig()
    kind: Plain | Levels = Plain()
    extra: Plain | None = None
    tasks: tuple[str, ...] = field(default=("a", "b"))
    eval_steps: int = 10


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Write a recipe in a folder of its own, where the test stands; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text=RECIPE, name="recipe.yaml"):
        Path(name).write_text(text)
        return name

    return write


def test_recipe_flags_and_defaults(recipe):
    """Flags win over files, later files over earlier ones, both over defaults."""
    over = recipe("lr: {peak: 1e-3}\neval_steps: 7", "over.yaml")
    flags = ["--eval_steps", "9", "--run.folder", "elsewhere", "--optim.betas", "[0.5, 0.6]"]
    config = parse(TrainConfig, ["--config", recipe(), "--config", over, *flags])
    assert config.lr == LRConfig(peak=1e-3, warmup_steps=2, steps=10)
    assert config.run == RunConfig(folder=Path("elsewhere"), seed=3)
    assert config.optim == OptimConfig(betas=(0.5, 0.6))
    assert config.eval_steps == 9
    assert config.tasks == ("a", "b")


def test_choices_are_types(recipe):
    """The arm is named by class_path, from the file or by flags."""
    path = recipe(RECIPE + "kind: {class_path: Levels, init_args: {levels: [4, 4]}}\nextra: {size: 2}\n")
    assert parse(TrainConfig, ["--config", path]).kind == Levels(levels=(4, 4))
    assert parse(TrainConfig, ["--config", path]).extra == Plain(size=2)
    changed = parse(TrainConfig, ["--config", path, "--kind.class_path=Plain", "--extra=null"])
    assert (changed.kind, changed.extra) == (Plain(), None)


MISTAKES = {
    "misspelt key": (
        RECIPE.replace("peak", "paek"),
        r"recipe.yaml: unknown setting `lr.paek`; did you mean `lr.peak`\?",
    ),
    "misspelt group": (
        RECIPE.replace("lr:", "rl:"),
        r"recipe.yaml: unknown setting `rl`; there are run, lr, optim, ",
    ),
    "far key": (RECIPE + "zebra: 1\n", r"recipe.yaml: unknown setting `zebra`; there are run, lr, "),
    "misspelt key of an arm": (
        RECIPE + "kind: {class_path: Levels, init_args: {level: [4]}}\n",
        r"recipe.yaml: unknown setting `kind.level`; did you mean `kind.levels`\?",
    ),
    "unknown arm": (
        RECIPE + "kind: {class_path: Level}\n",
        r"recipe.yaml: `kind.class_path` is 'Level', expected one of Plain, Levels",
    ),
    "arm left open": (
        RECIPE + "kind: {levels: [4]}\n",
        r"recipe.yaml: `kind` is none of Plain, Levels: check it, or name one as class_path",
    ),
    "wrong type": (RECIPE.replace("3e-4", "big"), r"recipe.yaml: `lr.peak` is 'big', expected float"),
    "wrong choice": (
        RECIPE.replace("seed: 3", "precision: fp8"),
        r"recipe.yaml: `run.precision` is 'fp8', expected Literal\['no', 'bf16'\]",
    ),
    "missing setting": (
        RECIPE.replace("warmup_steps: 2, ", ""),
        r"recipe.yaml: missing: lr.warmup_steps; give",
    ),
    "refused value": (
        RECIPE.replace("warmup_steps: 2", "warmup_steps: 20"),
        r"recipe.yaml: warmup_steps 20 must lie in \[0, 10\): lower it, or raise steps",
    ),
    "no mapping": ("- run\n- lr\n", r"recipe.yaml: a recipe maps settings to values, this one is a list"),
    "empty": ("", r"recipe.yaml: a recipe maps settings to values, this one is a NoneType"),
    "no YAML": (RECIPE + "x: {a: 1\n", r"recipe.yaml, line 6: no YAML: "),
    "no text": ("\x00", r"recipe.yaml.*no YAML: "),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_recipe(recipe, name):
    """One line: the file, the setting, what was expected."""
    text, message = MISTAKES[name]
    path = recipe(text)
    with pytest.raises(ValueError, match=message) as caught:
        parse(TrainConfig, ["--config", path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lr.paek", "1"], r"^unknown flag `--lr.paek`; did you mean `--lr.peak`\?"),
        (["--lr.peak", "big"], r"^`lr.peak` is 'big', expected float"),
        (["--eval_steps=1.5"], r"^`eval_steps` is '1.5', expected int"),
        (["--run.keep", "0"], r"run.keep is 0, the least is 1: raise it"),
        (["stray"], r"unrecognized arguments: stray"),
        (["--config"], r"--config needs the name of a recipe"),
        (["--config", "recipes.yaml"], r"^recipes.yaml: no such file; did you mean recipe.yaml\?"),
        (["--config", "x/y.yaml"], r"^x/y.yaml: no such file$"),
    ],
)
def test_mistakes_in_flags(recipe, flags, message):
    """What came from a flag is not blamed on the file."""
    with pytest.raises(ValueError, match=message) as caught:
        parse(TrainConfig, ["--config", recipe(), *flags])
    assert "\n" not in str(caught.value)


def test_nothing_given():
    """Without a recipe, the settings that are needed are named."""
    with pytest.raises(
        ValueError, match="^missing: run.folder, lr.peak, lr.warmup_steps, lr.steps; give them"
    ):
        parse(TrainConfig, [])


def test_help_shows_the_meanings(capsys):
    """`--help` prints what the dataclasses say under Args."""
    with pytest.raises(SystemExit) as left:
        parse(TrainConfig, ["--help"])
    assert left.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Highest learning rate, reached after the warm-up." in told
    assert "Steps between evaluations." in told


def test_help_for_a_recipe_shows_its_settings(recipe, capsys):
    """Behind a recipe, --help gives what it says as defaults, and the command as people type it."""
    with pytest.raises(SystemExit):
        parse(TrainConfig, ["--config", recipe(), "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "usage: vqtok train recipe.yaml [--SETTING VALUE ...]" in told
    assert "(type: int, default: 5)" in told  # the recipe's eval_steps


def test_launch_writes_the_resolved_config(recipe):
    """config.yaml in the run's folder reads back as the same configuration."""
    seen = []
    path = recipe(RECIPE + "kind: {class_path: Levels, init_args: {levels: [4, 4]}}\n")
    launch(seen.append, TrainConfig, ["--config", path, "--lr.peak", "1e-5"])
    assert parse(TrainConfig, ["--config", "runs/x/config.yaml"]) == seen[0]
    assert seen[0].lr.peak == 1e-5


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("too long:\n  shorten it"), "error: too long: shorten it"),
        (OSError(28, "No space left on device", "runs/x"), "error: runs/x: No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "data"), "error: data: No such file or directory"),
        (Diverged("the loss was not finite"), "error: the loss was not finite"),
        (
            ValueError("Caught ValueError in worker\nTraceback ...\nValueError: a.png is cut"),
            "error: ValueError: a.png is cut",
        ),
    ],
)
def test_launch_tells_a_users_mistake_in_one_line(recipe, capsys, error, line):
    """Exit code 2 and one line on stderr, no traceback."""

    def train(_):
        raise error

    with pytest.raises(SystemExit) as left:
        launch(train, TrainConfig, ["--config", recipe()])
    assert left.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_launch_lets_our_own_bugs_through(recipe):
    """A programming error keeps its traceback."""

    def train(_):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        launch(train, TrainConfig, ["--config", recipe()])


def test_launch_with_a_bad_recipe_trains_nothing(recipe, capsys):
    """The mistake is told before anything is written."""
    path = recipe(MISTAKES["misspelt key"][0])
    with pytest.raises(SystemExit):
        launch(pytest.fail, TrainConfig, ["--config", path])
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(item.name for item in Path().iterdir()) == ["recipe.yaml"]


def test_other_processes_keep_silent_about_a_recipe(recipe, capsys, monkeypatch):
    """A bad recipe is told once; what happens in training each process tells with its number."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        launch(pytest.fail, TrainConfig, ["--config", recipe("- 1")])
    assert capsys.readouterr().err == ""

    def train(_):
        raise ValueError("odd sample")

    with pytest.raises(SystemExit):
        launch(train, TrainConfig, ["--config", recipe()])
    assert capsys.readouterr().err == "error: process 1: odd sample\n"
    assert not Path("runs").exists()


def test_interrupted(recipe, capsys):
    """Ctrl-C says how to go on."""

    def train(_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as left:
        launch(train, TrainConfig, ["--config", recipe()])
    assert left.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_traceback_on_request(recipe, capsys, monkeypatch):
    """VQTOK_TRACEBACK=1 shows where a mistake came from."""
    monkeypatch.setenv("VQTOK_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        launch(pytest.fail, TrainConfig, ["--config", recipe("- 1")])
    assert "Traceback" in capsys.readouterr().err


def test_imports_are_silent():
    """Importing the package and a run with TensorBoard print nothing of their own."""
    code = "import vqtok.training; import torch.utils.tensorboard"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.returncode) == ("", 0)
    assert "vqtok" not in done.stderr


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One whose entries are a setting of a part since some version.

    Args:
        codes: The part.
    """

    MOVED = {"size": "codes.size"}

    codes: Plain | Levels = field(default_factory=Plain)


@dataclass(frozen=True, kw_only=True)
class HasMoved:
    """One that holds it.

    Args:
        net: The one.
    """

    net: Moved = field(default_factory=Moved)


def test_recipes_of_older_versions_are_read(tmp_path: Path):
    """A setting that has moved into a part is found where older recipes, and runs' config.yaml, have it."""
    recipe = tmp_path / "old.yaml"
    recipe.write_text("net: {size: 5}\n")
    assert parse(HasMoved, ["--config", str(recipe)]) == HasMoved(net=Moved(codes=Plain(size=5)))
