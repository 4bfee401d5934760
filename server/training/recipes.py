"""The jobs behind `editcritic train`: each takes folders, tells how far it is, and leaves files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from editcritic.server.critics.alignment import load_head
from editcritic.server.critics.multimodal.head import save_head
from editcritic.server.critics.multimodal.model import MultimodalModel
from editcritic.server.critics.network.calibration import read_calibration, write_calibration
from editcritic.server.critics.network.critic import ALIGNMENT, PREVIEWS, WEIGHTS, NetworkCritic
from editcritic.server.critics.network.forecast import load_readers, save_readers
from editcritic.server.critics.network.runner import NetworkRunner, load_network
from editcritic.server.training.adaptation import adapt_network, order_accuracy
from editcritic.server.training.alignment import Example
from editcritic.server.training.alignment import save_head as save_alignment
from editcritic.server.training.alignment_plainness import with_plainness
from editcritic.server.training.alignment_settling import settle
from editcritic.server.training.alignment_tuning import agreement, tune_alignment
from editcritic.server.training.calibration import collect_samples, fit_calibration
from editcritic.server.training.engine_pairs import read_answers
from editcritic.server.training.evaluation import jobs_of, list_photographs
from editcritic.server.training.forecast import fit_readers, look_at_previews, rank_correlations
from editcritic.server.training.named_answers import read_named
from editcritic.server.training.pairs import PairSource, read_photographs
from editcritic.server.training.quality_head import (
    head_accuracy,
    ladder_of_answers,
    ladder_of_group,
    train_head,
)
from editcritic.server.training.recorded_previews import read_recorded
from editcritic.server.training.stages import STAGES
from editcritic.server.training.trainer import Report, Trainer, TrainingRun, export_weights
from editcritic.v1.errors import InvalidInput

__all__ = [
    "Material",
    "adapt",
    "adapt_alignment",
    "calibrate",
    "gallery_source",
    "split_photographs",
    "train_network",
    "train_previews",
    "train_quality_head",
]

KEPT_EVERY = 12
"""One photograph in so many is kept from the network, to calibrate it on."""
CLEAN_FLAGGED = 0.03
"""Of the kept photographs; five in a hundred are allowed on others."""
KEPT_RUN = 12
"""So many pictures that follow one another by name are kept or learned from together: they may show one edit."""
HEAD_SIDE = 256
"""Side of the windows that a multimodal model is shown."""


@dataclass(frozen=True)
class Material:
    """Photographs to learn from.

    Attributes:
        images: folder of photographs (PNG, JPEG, WebP).
        masks: folder of object masks `<photo>_<anything>.png`, or None.
        manifest: CSV with the columns `file` and `split`, or None.
        split: which split of it; empty for all.
    """

    images: Path
    masks: Path | None = None
    manifest: Path | None = None
    split: str = ""

    def files(self) -> list[Path]:
        """The photographs; raises InvalidInput when there are none."""
        return list_photographs(self.images, self.manifest, self.split)


def split_photographs(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photographs to learn from, and every twelfth, kept to calibrate on."""
    kept = [file for place, file in enumerate(files) if place % KEPT_EVERY == KEPT_EVERY // 2 - 1]
    return [file for file in files if file not in set(kept)], kept


def train_network(
    material: Material,
    folder: Path,
    *,
    stages: Sequence[str] = tuple(STAGES),
    seed: int = 0,
    device: str = "cpu",
    workers: int = 1,
    steps: int = 0,
    told: Callable[[Report], None] | None = None,
) -> Path:
    """Carry out training stages in order, or go on with them; the weights' file.

    Args:
        steps: of every stage; 0 for each stage's own number.

    Raises:
        InvalidInput: an unknown stage, or no photographs.
    """
    unknown = [name for name in stages if name not in STAGES]
    if unknown:
        raise InvalidInput(f"there is no stage {unknown[0]!r}; known are {', '.join(STAGES)}")
    learnt, _ = split_photographs(material.files())
    run = TrainingRun(read_photographs(learnt, material.masks), folder, seed, device, workers)
    trainer = Trainer(run)
    for name in stages:
        trainer.train(STAGES[name] if steps == 0 else STAGES[name].shortened(steps), told)
    return folder / "network.safetensors"


def calibrate(
    weights: Path,
    material: Material,
    out: Path,
    *,
    name: str,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Fit curves and thresholds on the photographs that were kept from training; writes a weights folder.

    Args:
        weights: file of the network's weights.
        out: folder to write.
        name: of the calibration, told to clients.
    """
    learnt, kept = split_photographs(material.files())
    runner = NetworkRunner(load_network(weights))
    contours = [job for job in jobs_of(learnt, material.masks, seed + 1) if job.masks]
    samples = collect_samples(runner, jobs_of(kept, material.masks, seed), contours, told)
    out.mkdir(parents=True, exist_ok=True)
    write_calibration(fit_calibration(samples, name, clean_flagged=CLEAN_FLAGGED), out / "calibration.json")
    if weights.resolve() != (out / "network.safetensors").resolve():
        shutil.copyfile(weights, out / "network.safetensors")


def adapt(
    weights: Path,
    answers: Path,
    material: Material,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Adapt a weights folder to an engine's answers; a fifth of the edits is kept to measure on.

    Returns:
        Order accuracy on the kept edits before and after, and the number of pairs.
    """
    edits = list(read_answers(answers))
    kept, learnt = edits[::5], [each for place, each in enumerate(edits) if place % 5]
    network = load_network(weights / "network.safetensors")
    before, pairs = order_accuracy(network, kept)
    photographs = read_photographs(split_photographs(material.files())[0], material.masks)
    adapt_network(network, learnt, photographs, steps, seed, told)
    after, _ = order_accuracy(network, kept)
    out.mkdir(parents=True, exist_ok=True)
    export_weights(network, out / "network.safetensors")
    write_calibration(read_calibration(weights / "calibration.json"), out / "calibration.json")
    return {"before": before, "after": after, "pairs": float(pairs)}


def adapt_alignment(
    weights: Path,
    painted: Path,
    renderings: Sequence[Example],
    wrong: Mapping[str, float],
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> dict[str, tuple[float, float, int]]:
    """Teach the alignment head of a weights folder what an engine's pictures look like; writes it to `out`.

    painted: folder that `save_named` filled. A fifth of it and of the renderings is kept from learning, to settle on
    and to measure. wrong: by slot, how often the engine paints another word than was asked.

    Returns:
        By slot, on the kept pictures: share of words read as told before, after, and of how many.

    Raises:
        InvalidInput: too few pictures to learn from some and keep others.
    """
    learnt, kept = _apart(read_named(painted))
    drawn, kept_drawn = _apart(renderings)
    if not learnt or not drawn:
        raise InvalidInput(
            f"{len(kept)} painted pictures and {len(kept_drawn)} renderings are too few: more than {KEPT_RUN} of each"
            " are needed; ask for more --renderings or --answers"
        )
    head, tuned = load_head(weights / ALIGNMENT), load_head(weights / ALIGNMENT)
    tune_alignment(tuned, drawn, learnt, wrong, steps, seed, told)
    settled = settle(head, tuned, [kept_drawn, kept])
    settled = with_plainness(settled, [each for each in kept if not each.is_true])
    before, after = agreement(head, kept), agreement(settled, kept)
    out.mkdir(parents=True, exist_ok=True)
    save_alignment(settled.network, settled.vocabulary, out / ALIGNMENT)
    return {slot: (share, after[slot][0], count) for slot, (share, count) in before.items()}


def _apart(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    kept = [place // KEPT_RUN % 5 == 0 for place in range(len(examples))]
    return (
        [each for each, is_kept in zip(examples, kept, strict=True) if not is_kept],
        [each for each, is_kept in zip(examples, kept, strict=True) if is_kept],
    )


def train_previews(
    weights: Path,
    recorded: Path,
    engine: str,
    out: Path,
    *,
    told: Callable[[int, int], None] | None = None,
) -> dict[float, float]:
    """Teach a weights folder what an engine's previews promise; readers of other engines stay.

    Args:
        weights: folder of the network that is to read them; copied to `out`.
        recorded: folder of `RecordedEdit`s.
        engine: its name as engines tell it.

    Returns:
        Rank correlation of forecast and final visual quality within an edit, by share of the steps, on edits that
        were not learned from (five-fold cross-validation).
    """
    samples = look_at_previews(NetworkCritic(weights), read_recorded(recorded), told)
    readers = load_readers(weights / PREVIEWS) | {engine: fit_readers(samples)}
    out.mkdir(parents=True, exist_ok=True)
    for file in weights.glob("*.safetensors"):
        if not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)
    write_calibration(read_calibration(weights / "calibration.json"), out / "calibration.json")
    save_readers(readers, out / PREVIEWS)
    return dict(zip(samples.shares.tolist(), rank_correlations(samples), strict=True))


def train_quality_head(
    model: MultimodalModel,
    opened_as: str,
    material: Material,
    out: Path,
    *,
    answers: Path | None = None,
    with_network: bool = False,
    count: int = 60,
    steps: int = 400,
    seed: int = 0,
    told: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
) -> dict[int, tuple[float, int]]:
    """Train ELIQ's head on a frozen multimodal model; a fifth of the edits is kept to measure on.

    Args:
        opened_as: folder or hub id of the model, kept with the head.
        out: folder of the head; what the model made of each candidate is kept below it.
        answers: an engine's answers with their prompts, to learn prompt alignment from; None leaves it untaught.
        with_network: put the shipped network's features beside the model's states (MA-AGIQA).
        count: groups of injected faults.

    Returns:
        Order accuracy on the kept edits, and the number of pairs, by dimension (0 visual quality, 1 prompt alignment).
    """
    source = gallery_source(material, HEAD_SIDE, seed)
    network = NetworkRunner(load_network(WEIGHTS / "network.safetensors")) if with_network else None
    states = out / ("states-with-network" if with_network else "states")
    ladders = []
    for number in range(count):
        kept = states / f"{seed}-{number:05d}.safetensors"
        ladders.append(ladder_of_group(model, source.group(number), kept, network))
        told("looking", number + 1, count)
    edits = list(read_answers(answers)) if answers else []
    for number, edit in enumerate(edits):
        other = next((each.prompt for each in edits[number + 1 :] + edits if each.prompt != edit.prompt), "")
        if other:
            kept = states / f"answer-{edit.name}.safetensors"
            ladders.append(ladder_of_answers(model, edit, other, kept, network))
    learnt = [ladder for place, ladder in enumerate(ladders) if place % 5]
    head = train_head(learnt, out, steps, seed, lambda done, _loss: told("learning", done, steps))
    save_head(head, opened_as, out)
    return head_accuracy(head, ladders[::5])


def gallery_source(material: Material, side: int, seed: int) -> PairSource:
    """The stream of groups over these photographs, as training draws it."""
    return PairSource(read_photographs(material.files(), material.masks), side, seed)
