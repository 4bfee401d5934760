"""Does the face score order a real face above the same face with a known fault, and leave untouched ones alone?

    python -m editcritic.server.training.suites.faces --images photos/ --manifest manifest.csv --split val

Every face that the detector finds in a photograph is judged twice: as new, as if the source had none there, and as
redrawn, against the same face of the source. Faults are put in at two severities. Where it is redrawn the clean answer
is the face compressed anew, as a copy of the source would be too easy.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.faces.detection import Face, FaceDetector, open_detector
from editcritic.server.critics.faces.figures import measure_face
from editcritic.server.critics.faces.verdict import FaceCase, face_defects, score_of
from editcritic.server.training.evaluation import list_jobs
from editcritic.server.training.report import wilson
from editcritic.server.training.suites.face_faults import FACE_FAULTS, spoil_face
from editcritic.server.training.suites.results import Figure, SuiteResult
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_file

__all__ = ["FaceTrial", "face_trials", "faces_result", "main"]

Pixels = NDArray[np.uint8]

_SEVERITIES = (0.5, 1.0)
_QUALITY = 90


@dataclass(frozen=True)
class FaceTrial:
    """One face with one fault.

    Attributes:
        state: new or redrawn.
        fault: of `FACE_FAULTS`.
        clean, spoilt: scores.
        alarm, found: whether a defect was named on the clean face, on the spoilt one.
    """

    state: str
    fault: str
    clean: float
    spoilt: float
    alarm: bool
    found: bool


def face_trials(picture: Pixels, faces: Sequence[Face], seed: int) -> Iterator[FaceTrial]:
    """Every fault of every face of (H, W, 3) uint8, for both states."""
    for place, face in enumerate(faces):
        beside = measure_face(picture, face.box)
        again = _compressed(picture)
        for state, clean, reference in (("new", picture, None), ("redrawn", again, beside)):
            before, alarm = _judged(clean, face, reference)
            for fault in FACE_FAULTS:
                for severity in _SEVERITIES:
                    spoilt = spoil_face(clean, face.box, fault, severity, seed + place)
                    after, found = _judged(spoilt, face, reference)
                    yield FaceTrial(state, fault, before, after, alarm, found)


def faces_result(photographs: Sequence[tuple[Pixels, int]], detector: FaceDetector) -> SuiteResult:
    """Shares of pairs in order, of faults found and of false alarms, over photographs and their seeds."""
    trials, count = [], 0
    for picture, seed in photographs:
        faces = detector.find(picture)
        count += len(faces)
        trials += list(face_trials(picture, faces, seed))
    figures = [Figure("faces found", count, len(photographs))]
    return SuiteResult("faces", "Is a spoilt face scored below the same face?", [*figures, *_figures(trials)])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--manifest", type=Path, help="CSV with the columns file and split")
    parser.add_argument("--split", default="", help="use only this split of the manifest")
    parser.add_argument("--limit", type=int, default=0, help="most photographs; 0 for all")
    parser.add_argument("--detector", default="", help="file of a YuNet model; by default the one that ships")
    told = parser.parse_args(argv)
    jobs = list_jobs(told.images, manifest=told.manifest, split=told.split, limit=told.limit)
    photographs = [(decode_file(job.photo.read_bytes()), job.seed) for job in jobs]
    result = faces_result(photographs, open_detector(told.detector))
    print("| figure | value | 95 % interval | cases |\n|---|---|---|---|")
    for each in result.figures:
        interval = "" if each.low is None or each.high is None else f"{each.low:.2f} to {each.high:.2f}"
        print(f"| {each.name} | {each.value:.2f} | {interval} | {each.count} |")


def _judged(picture: Pixels, face: Face, beside: Mapping[str, float] | None) -> tuple[float, bool]:
    state = pb.FACE_STATE_NEW if beside is None else pb.FACE_STATE_REDRAWN
    case = FaceCase(face.box, state, measure_face(picture, face.box), beside, False)
    return score_of(case).value, bool(face_defects(case, picture.shape[1], 1))


def _compressed(picture: Pixels) -> Pixels:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1], np.uint8)


def _figures(trials: Sequence[FaceTrial]) -> Iterator[Figure]:
    """In order, found, and false alarms by state."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for each in trials:
        for name in (each.fault, "all faults"):
            groups[f"{each.state}: in order, {name}"].append(each.spoilt < each.clean)
            groups[f"{each.state}: named, {name}"].append(each.found)
    # One clean judgement stands behind all faults of a face.
    step = len(FACE_FAULTS) * len(_SEVERITIES)
    for state in ("new", "redrawn"):
        own = [each.alarm for each in trials if each.state == state]
        groups[f"{state}: false alarms"] = own[::step]
    for name, hits in groups.items():
        share = wilson(sum(hits), len(hits))
        yield Figure(name, share.value, share.count, share.low, share.high)


if __name__ == "__main__":
    main()
