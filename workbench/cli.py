"""The command `vqtok`: one verb for each thing a person does with the toolkit.

Nothing heavy is imported before the verb is known, so that `vqtok --help` answers at once. A user's mistake
(ValueError, OSError) is one line on stderr and exit code 2, with a traceback before it where VQTOK_TRACEBACK
is set; anything else is our own, and always shows its traceback.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqtok import __version__

if TYPE_CHECKING:
    from vqtok.gpt import Sampling
    from workbench.drawers import Drawer

Verb = Callable[[argparse.Namespace, list[str]], None]
PASSED_ON = "`vqtok evaluate tokenizer --help`, and likewise for the others, lists the options."
RECIPES = (".yaml", ".yml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    arguments, rest = _parse(argv)
    try:
        arguments.run(arguments, rest)
    except (ValueError, OSError) as error:
        if os.environ.get("VQTOK_TRACEBACK"):
            traceback.print_exception(error)
        print(f"vqtok: error: {_in_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The verb with its own options, and what is passed on to the module behind it."""
    about = "Images become tokens; one transformer learns them."
    parser = argparse.ArgumentParser(prog="vqtok", description=about)
    parser.add_argument("--version", action="version", version=f"vqtok {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_train(verbs)
    _add_encode(verbs)
    _add_evaluate(verbs)
    _add_prompt(verbs)
    _add_sample(verbs)
    _add_complete(verbs)
    _add_probe(verbs)
    _add_import(verbs)
    _add_compare(verbs)
    _add_demo(verbs)
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.passes_on:
        verbs.choices[arguments.verb].error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments, rest


def _add_verb(
    verbs: argparse._SubParsersAction, run: Verb, description: str, passes_on: bool = False
) -> argparse.ArgumentParser:
    """A parser named like the function it runs; one that passes options on leaves --help to the receiver."""
    name, sentence = run.__name__.removeprefix("_"), f"{description[0].upper()}{description[1:]}."
    verb = verbs.add_parser(
        name, help=description, description=sentence, add_help=not passes_on, allow_abbrev=False
    )
    verb.set_defaults(run=run, passes_on=passes_on)
    return verb


def _add_train(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _train, "train by a recipe, on every GPU there is", passes_on=True)
    verb.usage = "vqtok train RECIPE [--SETTING VALUE ...]"
    verb.epilog = (
        "Settings are changed behind the recipe, as in `vqtok train RECIPE --lr.peak 1e-4`; "
        "`vqtok train RECIPE --help` lists them. Start `accelerate launch` yourself, with the command in the "
        "recipe's header, for several machines or your own `accelerate config`."
    )
    verb.add_argument("recipe", type=Path, nargs="?", help="a YAML file, such as recipes/lvm/emoji64.yaml")
    verb.set_defaults(parser=verb)


def _add_encode(verbs: argparse._SubParsersAction) -> None:
    _add_verb(verbs, _encode, "turn pictures into token shards", passes_on=True)


def _add_evaluate(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _evaluate, "measure a tokenizer or a model on held-out pictures", passes_on=True)
    verb.epilog = PASSED_ON
    known = ["tokenizer", "imagegpt", "dalle", "lvm", "protocols", "diffusion"]
    verb.add_argument("what", nargs="?", choices=known, help="what to measure")
    verb.set_defaults(parser=verb)


def _add_prompt(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _prompt, "show pairs of pictures and have the same done to another")
    verb.epilog = "Give --pair and --query, or --frames, which a row of pictures goes on behind."
    add = verb.add_argument
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("BEFORE", "AFTER")}
    add("--pair", type=Path, **pair, help="an example, both of one size; may be given several times")
    add("--query", type=Path, metavar="PICTURE", help="the picture to do the same to")
    add("--frames", type=Path, nargs="+", metavar="PICTURE", help="a row to continue, in place of these")
    add("--count", type=int, metavar="N", help="pictures to draw behind the frames [1]")
    add("--out", type=Path, default="answer.png", metavar="PNG", help="prompt and answers [%(default)s]")
    add("--model", metavar="FOLDER", help="a folder or hub id; the shipped weights unless given")
    add("--candidates", type=int, default=1, metavar="N", help="answers to draw, best first [%(default)s]")
    ensemble = "prompts, the pairs in other orders, that answer together [%(default)s]"
    add("--ensemble", type=int, default=1, metavar="N", help=ensemble)
    add("--allowed", choices=["seen"], help="draw only codes that occur in the answers shown")
    away = "how far to push away from what it answers without the pairs; 1 is not at all [1]"
    add("--guidance", type=float, metavar="S", help=away)
    add("--task", metavar="NAME", help="tell a model which task it is, if it was trained to be told")
    fits = ["crop", "stretch", "pad"]
    add("--fit", choices=fits, default="crop", help="what becomes of pictures not square [%(default)s]")
    _add_sampling(verb, default="0 for one answer, 1 for several or a cut")


def _add_sample(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _sample, "draw pictures from nothing, of a class, or of a caption")
    add = verb.add_argument
    add("--model", required=True, metavar="FOLDER", help="an ImageGPT, DALL-E or DDPM: a folder or hub id")
    add("--count", type=int, default=16, metavar="N", help="pictures, of each class or caption [%(default)s]")
    add("--caption", action="append", metavar="TEXT", help="what a DALL-E draws; may be given several times")
    named = "draw this class; may be given several times"
    add("--class", action="append", default=[], dest="classes", metavar="NAME", help=named)
    guidance = "how far to push away from what it draws without either; 1 is not at all [1; of a DALL-E 3]"
    add("--guidance", type=float, metavar="S", help=guidance)
    add("--out", type=Path, default="samples.png", metavar="PNG", help="[%(default)s]")
    _add_sampling(verb, default="1")
    samplers = "of a DDPM: ddim, ancestral, dpm_solver or heun [ddim]"
    add("--sampler", choices=["ddim", "ancestral", "dpm_solver", "heun"], help=samplers, metavar="NAME")
    add("--steps", type=int, metavar="N", help="of a DDPM, from noise to picture [the sampler's own]")


def _add_complete(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _complete, "draw the lower part of pictures anew, or a hole in them")
    add = verb.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE", help="PNG, JPEG or WebP")
    add("--model", required=True, metavar="FOLDER", help="an ImageGPT, DALL-E or DDPM: a folder or hub id")
    told = "what a DALL-E draws, of all pictures; or give one for each, in their order"
    add("--caption", action="append", metavar="TEXT", help=told)
    rows = "rows that are kept, from the top: of codes, or of a DDPM's pixels [half of them]"
    add("--rows", type=int, metavar="N", help=rows)
    edges = ("TOP", "LEFT", "BOTTOM", "RIGHT")
    hole = "what a DDPM, or a model that sees both sides, fills, in pixels [the middle]"
    add("--hole", type=int, nargs=4, metavar=edges, help=hole)
    add("--candidates", type=int, default=3, metavar="N", help="answers to each picture [%(default)s]")
    add("--out", type=Path, default="completed.png", metavar="PNG", help="[%(default)s]")
    _add_sampling(verb, default="1")
    add("--steps", type=int, metavar="N", help="of a DDPM, from noise to picture [50]")


def _add_sampling(verb: argparse.ArgumentParser, default: str) -> None:
    """Options of `_sampling`, and the seed."""
    add = verb.add_argument
    heat = f"0 takes the best token, 1 draws by the model's odds [{default}]"
    add("--temperature", type=float, metavar="T", help=heat)
    add("--top-k", type=int, metavar="K", help="draw from the K best tokens only")
    add("--top-p", type=float, metavar="P", help="draw from the best tokens that make up probability P")
    add("--seed", type=int, default=0, help="of the drawing [%(default)s]")


def _add_probe(verbs: argparse._SubParsersAction) -> None:
    _add_verb(verbs, _probe, "measure what an ImageGPT's layers know of classes", passes_on=True)


def _add_import(verbs: argparse._SubParsersAction) -> None:
    about = "write somebody else's tokenizer, ImageGPT, LVM, its data, or DDPM as a folder of ours"
    verb = _add_verb(verbs, _import, about)
    verb.epilog = "docs/guides/published_tokenizers.md lists the layouts that load."
    add = verb.add_argument
    source = "a file or a folder, as its authors published it, or owner/name[/file] on the hub"
    add("source", metavar="SRC", help=source)
    add("folder", metavar="DST", type=Path, help="where config.json and model.safetensors shall lie")
    size = "pixels a side of the images it was trained on [what its files tell, else its layout's]"
    add("--size", type=int, metavar="PIXELS", help=size)
    add("--low", type=float, choices=[-1.0, 0.0], help="black as its network sees it [its layout's]")
    add("--palette", metavar="FILE", help="colors of an ImageGPT whose files do not hold them")
    tokenizer = "of an LVM, or of a .jsonl: a file, a folder or a hub id [the folder `tokenizer` in SRC]"
    add("--tokenizer", metavar="PLACE", help=tokenizer)
    add("--task", metavar="NAME", help="what sentences of LVM's .jsonl are of; they become shards")
    form = "of a .jsonl: single, pairs, sequence:16, annotated:8 or groups:4:4, images a row and rows"
    add("--form", metavar="FORM", help=form)


def _add_compare(verbs: argparse._SubParsersAction) -> None:
    _add_verb(verbs, _compare, "measure speed or learning beside other libraries", passes_on=True)


def _add_demo(verbs: argparse._SubParsersAction) -> None:
    verb = _add_verb(verbs, _demo, "prompt the shipped model, train small ones, and write a page about it")
    verb.add_argument("--quick", action="store_true", help="only prompt the shipped model: under a minute")
    verb.add_argument("--out", type=Path, default="demo", metavar="FOLDER", help="[%(default)s]")


def _train(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.recipes import run

    if _asks_for_help(arguments.recipe, rest, arguments.parser):
        return
    if arguments.recipe.suffix not in RECIPES and any(Path(word).suffix in RECIPES for word in rest):
        raise ValueError(f"{arguments.recipe} stands where the recipe should: name the recipe first")
    run(arguments.recipe, rest)


def _encode(arguments: argparse.Namespace, rest: list[str]) -> None:
    if any(word.split("=")[0] == "--pairs" for word in rest):
        from lvm.encode import main as encode
    else:
        from vqtok.tokenizers.encode import main as encode
    encode(rest)


def _evaluate(arguments: argparse.Namespace, rest: list[str]) -> None:
    if _asks_for_help(arguments.what, rest, arguments.parser):
        return
    if arguments.what == "tokenizer":
        from vqtok.tokenizers.evaluate import main as evaluate
    elif arguments.what == "imagegpt":
        from imagegpt.evaluate import main as evaluate
    elif arguments.what == "dalle":
        from dalle.evaluate import main as evaluate
    elif arguments.what == "diffusion":
        from diffusion.evaluate import main as evaluate
    elif arguments.what == "protocols":
        from lvm.protocols.evaluate import main as evaluate
    else:
        from workbench.shots import main as evaluate
    evaluate(rest)


def _prompt(arguments: argparse.Namespace, rest: list[str]) -> None:
    import torch

    from lvm import DEFAULT_WEIGHTS, LVM
    from workbench.prompt import Asking, continue_row, prompt

    _check_what_is_prompted(arguments)
    uncut = arguments.top_k is None and arguments.top_p is None
    sampling = _sampling(arguments, temperature=0.0 if arguments.candidates == 1 and uncut else 1.0)
    names = ("candidates", "seed", "ensemble", "allowed", "task", "fit")
    asking = Asking(sampling=sampling, **{name: getattr(arguments, name) for name in names})
    model = LVM.from_pretrained(arguments.model or DEFAULT_WEIGHTS)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.frames:
        count = 1 if arguments.count is None else arguments.count
        continue_row(model, arguments.frames, count, arguments.out, asking)
    else:
        prompt(model, [tuple(pair) for pair in arguments.pair], arguments.query, arguments.out, asking)
    print(arguments.out)


def _check_what_is_prompted(arguments: argparse.Namespace) -> None:
    """Raises ValueError unless there are pairs and a query, or frames, and not both."""
    if arguments.frames and (arguments.pair or arguments.query):
        raise ValueError("--frames stand in the place of --pair and --query: give one or the other")
    if not arguments.frames and not (arguments.pair and arguments.query):
        raise ValueError("a prompt is --pair BEFORE AFTER, once or more, and --query PICTURE; or --frames")
    if arguments.count is not None and not arguments.frames:
        raise ValueError("--count is of pictures behind --frames: --candidates are answers to a query")


def _sample(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.drawing import sample

    names = arguments.classes + (arguments.caption or [])
    sample(_drawer(arguments), arguments.out, arguments.count, names)
    print(arguments.out)


def _complete(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.drawing import complete

    places = {"rows": arguments.rows, "hole": arguments.hole, "candidates": arguments.candidates}
    places["captions"] = arguments.caption or []
    complete(_drawer(arguments), arguments.out, arguments.pictures, **places)
    print(arguments.out)


def _drawer(arguments: argparse.Namespace) -> "Drawer":
    """What draws, with those options that the verb has."""
    from workbench.drawers import Choices, drawer

    names = ("seed", "guidance", "temperature", "top_k", "top_p", "sampler", "steps", "caption")
    return drawer(arguments.model, Choices(**{name: getattr(arguments, name, None) for name in names}))


def _sampling(arguments: argparse.Namespace, temperature: float) -> "Sampling":
    """How tokens are drawn, at this temperature unless another one is given."""
    from vqtok.gpt import Sampling

    heat = temperature if arguments.temperature is None else arguments.temperature
    cuts = {"top_k": arguments.top_k, "top_p": arguments.top_p}
    if arguments.guidance is None:
        return Sampling(temperature=heat, **cuts)
    from vqtok.gpt.guidance import Constant

    return Sampling(temperature=heat, guidance=Constant(scale=arguments.guidance), **cuts)


def _probe(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.probe import main as probe

    probe(rest)


def _import(arguments: argparse.Namespace, rest: list[str]) -> None:
    if arguments.source.endswith(".jsonl"):
        _import_sentences(arguments)
        return
    if arguments.task or arguments.form:
        raise ValueError(f"{arguments.source} is no .jsonl of LVM: leave --task and --form out")
    from diffusion.published.pipelines import import_ddpm, is_diffusers
    from imagegpt.published import import_imagegpt, is_imagegpt
    from lvm.published import import_lvm, is_lvm
    from vqtok.tokenizers.loading import import_tokenizer

    if arguments.tokenizer is not None or is_lvm(arguments.source):
        told = import_lvm(arguments.source, arguments.folder, arguments.tokenizer)
    elif is_imagegpt(arguments.source):
        told = import_imagegpt(arguments.source, arguments.folder, arguments.palette)
    elif is_diffusers(arguments.source):
        told = import_ddpm(arguments.source, arguments.folder)
    else:
        told = import_tokenizer(arguments.source, arguments.folder, arguments.size, arguments.low)
    print(f"{told}\n{arguments.folder}")


def _import_sentences(arguments: argparse.Namespace) -> None:
    from lvm.published.jsonl import form_of, import_jsonl

    named = {name: getattr(arguments, name) for name in ("tokenizer", "task", "form")}
    if missing := [f"--{name}" for name, value in named.items() if not value]:
        raise ValueError(f"{arguments.source} does not say what is in it: give {' and '.join(missing)}")
    named["form"] = form_of(named["form"])
    print(f"{import_jsonl(arguments.source, arguments.folder, **named)}\n{arguments.folder}")


def _compare(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.compare.command import main as compare

    compare(rest)


def _demo(arguments: argparse.Namespace, rest: list[str]) -> None:
    from workbench.demo import demo

    demo(out=arguments.out, quick=arguments.quick)


def _asks_for_help(subject: object, rest: list[str], parser: argparse.ArgumentParser) -> bool:
    """Whether nothing was named but --help, which is then shown; nothing at all is refused."""
    if subject is not None:
        return False
    if not {"-h", "--help"} & {*rest}:
        parser.error(f"what is missing: {parser.format_usage().strip()}")
    parser.print_help()
    return True


def _in_one_line(error: ValueError | OSError) -> str:
    """What went wrong, without the line breaks and the error number that the system adds."""
    if isinstance(error, OSError) and error.strerror:
        file = f"{error.filename}: " if error.filename is not None else ""
        return f"{file}{error.strerror}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
