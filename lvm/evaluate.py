"""What a large vision model does with examples, on names it never saw.

Kind and content are scored apart, and every score stands between its ceiling (the tokenizer's round trip of
the right answer) and its floors: a copy of the query, a copy of the last answer shown, and what the model
answers to shuffled answers and to the pairs of another task.

    vqtok evaluate lvm --model runs/lvm-emoji64/model --out runs/evaluate-lvm

Letters: q questions, t tokens of an image, c h w image; r rows of a sheet.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from lvm.exam import Exam, decode, exam, questions
from lvm.floors import LEAST, shuffled_answers, wrong_exam, wrong_task_prompts
from lvm.generate import answer_nats, answers, nats_and_answers
from lvm.kind import DEFAULT_KIND, KindClassifier
from lvm.marks import kind_right, scores
from lvm.model import DEFAULT_WEIGHTS, LVM
from lvm.report import SHUFFLED, WIDTH, WRONG, Report, TaskReport, sheet, show
from lvm.rules import Task
from lvm.tasks import PAIR_TASKS
from vqtok.data.pictures import write_picture
from vqtok.gpt.guidance import Constant
from vqtok.gpt.sampling import Sampling
from vqtok.metrics.lpips import LPIPS, lpips_or_reason
from vqtok.storage.folders import write_file

ENOUGH = 3  # shots, up to which every added one shall lower the loss
BATCH = 25  # sentences at once
HELD_OUT = ", held-out members"

Nats = dict[int, Tensor]  # shots, rising -> (q, t), of the same right answers' tokens


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured.

    Args:
        names: Drawings asked about, at least 2; each is asked about once a task.
        shots: Pairs before a query at which the right answer's loss is measured.
        answer_shots: Pairs before a query whose answer is generated.
        seed: Of the choice of drawings, and of noise, holes and styles.
        floors: Whether misleading prompts are answered too, by two more answers to every question.
        guidance: Scale by which answers move away from those to the query without pairs; 1 leaves it.
    """

    names: int = 100
    shots: Sequence[int] = (0, 1, 2, 3)
    answer_shots: int = 3
    seed: int = 0
    floors: bool = True
    guidance: float = 1.0


@dataclass(frozen=True)
class Sitting:
    """An exam and what the model did in it.

    Args:
        exam: What was asked.
        held_out: Whether what was asked for was kept from training.
        nats: Of the right answers, by shots.
        answers: (q, 3, h, w), to the right prompts.
        misled: Misleading prompt -> nats (q, t) of the right answers, and answers (q, 3, h, w).
        wrong: The exam whose pairs the wrong-task prompts show; None without them.
    """

    exam: Exam
    held_out: bool
    nats: Nats
    answers: Tensor
    misled: dict[str, tuple[Tensor, Tensor]]
    wrong: Exam | None


def evaluate(
    model: LVM,
    job: Job | None = None,
    tasks: Sequence[Task] = PAIR_TASKS,
    judge: KindClassifier | None = None,
    lpips: LPIPS | None = None,
) -> Report:
    """Ask `model` about plain emoji of the test split; the same numbers every time.

    The pairs shown are of other test names, none a look-alike of the one asked about, and the same drawings
    for every task. With fewer shots the last of them are shown, so losses at all shot counts are of the same
    answers. Generated answers are greedy; losses are without guidance.

    Args:
        model: In evaluation mode.
        job: How much is asked; `Job()` unless given.
        tasks: What to ask, pairs all of them. Held out are those that the model was not trained on; if that
            is not known, those of the library. Of a parametrised one, the members that are trained, in turn,
            and under its name and `HELD_OUT` as many that are not.
        judge: Tells kinds; the shipped one unless given.
        lpips: Measures LPIPS, which is left out unless given.

    Raises:
        ValueError: if more pairs are wanted than fit the model, there are too few names, or the judge does
            not know a task.
    """
    job = job or Job()
    counts = sorted({*job.shots, job.answer_shots})
    if counts[0] < 0 or counts[-1] > model.shots:
        raise ValueError(f"shots {counts} leave [0, {model.shots}], what fits this model: choose of these")
    judge = judge or KindClassifier.from_pretrained(DEFAULT_KIND).to(model.gpt.embed.weight.device)
    for task in tasks:
        if task.name not in judge.config.tasks:
            raise ValueError(f"the judge does not know {task.name!r}: train it again, `python -m lvm.kind`")
    asked = questions(job.names, max(*counts, 1), job.seed)
    reports, pictures, nats = {}, {}, {}
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        for name, task, members in progress.track(_parts(tasks), description="tasks"):
            unknown = task.name not in model.config.trained if model.config.trained else task.held_out
            held_out = unknown or task.members <= members[0]
            sat = _sit(model, exam(task, asked, model.tokenizer, members), held_out, counts, job, judge)
            reports[name], nats[name] = _task_report(sat, judge, lpips), sat.nats
            pictures[name] = _shown(sat, job.answer_shots)
    trained = {name: report for name, report in reports.items() if not report.held_out}
    return Report(names=job.names, shots=tuple(counts), answer_shots=job.answer_shots,
                  guidance=job.guidance, seed=job.seed, tasks=reports, trained=_together(trained, nats),
                  stalls=stalls(trained), pictures=pictures,
                  **({"lpips": lpips.network} if lpips else {}))


def losses(nats: Nats) -> dict[str, dict]:
    """Means of nats, by shots, and what each shot count saves over the one before it.

    Returns:
        "nats" and "gains" as in `TaskReport`.
    """
    row = math.isqrt(next(iter(nats.values())).shape[1])
    parts = {"answer": {count: found.mean(1) for count, found in nats.items()},
             "first_row": {count: found[:, :row].mean(1) for count, found in nats.items()}}
    means = {part: {str(count): float(each.mean()) for count, each in by.items()}
             for part, by in parts.items()}
    steps = list(zip(nats, [*nats][1:], strict=False))
    gains = {part: {f"{few} to {many}": _mean_and_error(by[few] - by[many]) for few, many in steps}
             for part, by in parts.items()}
    return {"nats": means, "gains": gains}


def perplexities(nats: Tensor) -> dict[str, float]:
    """Perplexity of answers by their nats (q, t), by both means that papers take.

    `corpus` is exp of the mean over all tokens. `mean_of_examples` is the mean over answers of exp of their
    own means, never below the other (Jensen): one answer that is not understood can rule it. The program
    published with Bai et al. 2023 reports the second.
    """
    examples = nats.double().mean(1)
    return {"corpus": float(examples.mean().exp()), "mean_of_examples": float(examples.exp().mean())}


def stalls(reports: dict[str, TaskReport]) -> dict[str, dict[str, tuple[float, float]]]:
    """Steps, up to three shots, at which the first row's loss does not fall, with gain and standard error."""
    found = {
        name: {step: gain for step, gain in report.gains["first_row"].items()
               if gain[0] <= 0 and int(step.split()[-1]) <= ENOUGH}
        for name, report in reports.items()
    }
    return {name: steps for name, steps in found.items() if steps}


def _parts(tasks: Sequence[Task]) -> list[tuple[str, Task, range]]:
    """Names of what is asked, each with its task and its members."""
    parts = []
    for task in tasks:
        parts.append((task.name, task, range(task.members)))
        if task.members > 1:
            parts.append((task.name + HELD_OUT, task, range(task.members, 2 * task.members)))
    return parts


def _sit(
    model: LVM, sat: Exam, held_out: bool, counts: list[int], job: Job, judge: KindClassifier
) -> Sitting:
    nats, misleading, wrong = {}, {}, None
    for count in counts:
        if count == job.answer_shots:
            nats[count], drawn = _answered(model, sat.sentences(count), job.guidance)
        else:
            parts = sat.sentences(count).to(model.gpt.embed.weight.device).split(BATCH)
            nats[count] = torch.cat([answer_nats(model.gpt, model.layout, part) for part in parts]).cpu()
    if job.floors and job.answer_shots >= LEAST:
        misleading[SHUFFLED] = shuffled_answers(sat, job.answer_shots)
    if job.floors and job.answer_shots:
        known = [task for task in PAIR_TASKS if task.name in judge.config.tasks]
        wrong = wrong_exam(sat, model.tokenizer, known)
        misleading[WRONG] = wrong_task_prompts(sat, wrong, job.answer_shots)
    misled = {name: _answered(model, sentences, job.guidance) for name, sentences in misleading.items()}
    return Sitting(sat, held_out, nats, drawn, misled, wrong)


def _answered(model: LVM, sentences: Tensor, guidance: float) -> tuple[Tensor, Tensor]:
    """Nats (q, t) of the last images of sentences (q, i, t), and pictures (q, 3, h, w) in their place."""
    parts = sentences.to(model.gpt.embed.weight.device).split(BATCH)
    if guidance == 1 or sentences.shape[1] == 2:  # without pairs there is nothing to guide by
        both = [nats_and_answers(model.gpt, model.layout, part) for part in parts]
    else:
        greedy = Sampling(temperature=0.0, guidance=Constant(scale=guidance))
        both = [(answer_nats(model.gpt, model.layout, part),
                 answers(model.gpt, model.layout, part[:, :-1], greedy)) for part in parts]
    nats, ids = (torch.cat(found).cpu() for found in zip(*both, strict=True))
    grids = rearrange(ids, "q (i j) -> q i j", i=math.isqrt(model.layout.tokens))
    return nats, decode(model.tokenizer, grids)


def _task_report(sat: Sitting, judge: KindClassifier, lpips: LPIPS | None) -> TaskReport:
    asked, task = sat.exam, sat.exam.task
    rivals = Counter(name for names in asked.fit for name in sorted(names - {task.name}))
    given = asked.contenders(sat.answers) | {name: found for name, (_, found) in sat.misled.items()}
    return TaskReport(
        kind=task.kind, held_out=sat.held_out, rivals=dict(rivals), **losses(sat.nats),
        judge=kind_right(asked, asked.pairs[asked.asked, 1], judge),
        scores={name: scores(asked, found, judge, lpips) for name, found in given.items()},
        perplexity=_by_shots(sat.nats),
        misled={name: _flat(nats) for name, (nats, _) in sat.misled.items()},
        wrong_task=_wrong_task(sat, judge),
    )


def _wrong_task(sat: Sitting, judge: KindClassifier) -> dict[str, str | float]:
    """What wrong-task prompts showed, and how many answers are what they ask for."""
    if sat.wrong is None:
        return {}
    right = sat.wrong.pairs[sat.wrong.asked, 1]
    return {"task": sat.wrong.task.name, "follows": kind_right(sat.wrong, sat.misled[WRONG][1], judge),
            "judge": kind_right(sat.wrong, right, judge)}


def _by_shots(nats: Nats) -> dict[str, dict[str, float]]:
    """Both perplexities, then by shots."""
    found = {str(count): perplexities(each) for count, each in nats.items()}
    return {mean: {count: both[mean] for count, both in found.items()}
            for mean in ("corpus", "mean_of_examples")}


def _flat(nats: Tensor) -> dict[str, float]:
    """Nats per token of answers by their nats (q, t), all and first row, and both perplexities."""
    means = losses({0: nats})["nats"]
    return {part: by["0"] for part, by in means.items()} | perplexities(nats)


def _together(reports: dict[str, TaskReport], nats: dict[str, Nats]) -> dict[str, dict | float]:
    """Nats, gains, perplexities and scores of several tasks as one, each counting alike; {} of no task."""
    if not reports:
        return {}
    # Question by question, because the same drawings are asked about in all tasks: errors go together.
    counts = nats[next(iter(reports))]
    every = {count: torch.stack([nats[name][count] for name in reports]) for count in counts}
    found = losses({count: each.mean(0) for count, each in every.items()})
    found["perplexity"] = _by_shots({count: each.flatten(0, 1) for count, each in every.items()})
    for score, kind in (("kind", None), ("content", "style"), ("iou", "mask")):
        values = [report.scores["answer"][score] for report in reports.values()
                  if score in report.scores["answer"] and kind in (None, report.kind)]
        found |= {score: sum(values) / len(values)} if values else {}
    follows = [report.wrong_task["follows"] for report in reports.values() if report.wrong_task]
    found |= {"follows": sum(follows) / len(follows)} if follows else {}
    return found | {"judge": sum(report.judge for report in reports.values()) / len(reports)}


def _shown(sat: Sitting, shots: int, rows: int = 3) -> Tensor:
    """(r, 2 shots + 3, 3, h, w) of the first questions: pairs, query, answer, right answer."""
    asked = sat.exam
    shown = asked.pairs[asked.shown[:rows, asked.shown.shape[1] - shots :]]  # (r, shots, 2, 3, h, w)
    query, right = asked.pairs[asked.asked[:rows]].unbind(1)
    return torch.cat([shown.flatten(1, 2), torch.stack([query, sat.answers[:rows], right], dim=1)], dim=1)


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def main(argv: Sequence[str] | None = None) -> Path:
    """Print the tables, write report.json and sheet.png, and return where the report lies."""
    arguments = vars(_arguments(argv))
    out, weights, judge = (arguments.pop(name) for name in ("out", "model", "judge"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lpips, said = lpips_or_reason(device)
    report = evaluate(
        LVM.from_pretrained(weights).to(device), Job(**arguments), PAIR_TASKS,
        KindClassifier.from_pretrained(judge).to(device), lpips,
    )
    report = replace(report, lpips=said)
    show(report, Console(width=max(WIDTH, Console().width)))
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "report.json", (json.dumps(report.facts(), indent=1) + "\n").encode())
    write_picture(out / "sheet.png", sheet(report.pictures))
    print(f"{out}/report.json, {out}/sheet.png: three lines a task, in the order of the tables, of pairs, "
          "query, answer and right answer")
    return out / "report.json"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about = "Measure a large vision model on names that it never saw."
    parser = argparse.ArgumentParser("vqtok evaluate lvm", description=about)
    add = parser.add_argument
    add("--model", default=DEFAULT_WEIGHTS, help="folder or hub id; the shipped weights unless given")
    add("--judge", default=DEFAULT_KIND, help="classifier of kinds; the shipped one unless given")
    add("--names", type=int, default=Job.names, help="drawings asked about, once a task [%(default)s]")
    add("--shots", type=int, nargs="+", default=Job.shots, help="pairs shown, for the losses [0 1 2 3]")
    answer_shots = "pairs shown, for generated answers [%(default)s]"
    add("--answer-shots", type=int, default=Job.answer_shots, help=answer_shots)
    floors = "answer misleading prompts too: shuffled answers, and pairs of another task [%(default)s]"
    add("--floors", action=argparse.BooleanOptionalAction, default=Job.floors, help=floors)
    guidance = "answers move so far from those to the query without pairs; 1 leaves it [%(default)s]"
    add("--guidance", type=float, default=Job.guidance, help=guidance)
    add("--seed", type=int, default=Job.seed, help="of the questions [%(default)s]")
    add("--out", type=Path, default=Path("runs/evaluate-lvm"), help="folder for the files [%(default)s]")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
