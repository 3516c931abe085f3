"""Where the quality gates lie against real scans and against copies spoiled on purpose; the numbers of docs/qc.md.

Run ``python benchmarks/quality_gates.py DATA [--every N] [--cache FOLDER]``; DATA holds ``ds000011``, ``ds002748-2mm``,
``openms`` and ``scans``. Of ds002748-2mm every fourth scan is taken (``--every``). One scan takes about 12 CPU seconds,
all of it about 20 minutes on one core; ``--cache`` keeps the numbers of each scan (not its image) between runs. Spoiled
copies of two of the scans go through the whole chain but the second chance for turned heads, which takes minutes.

*Good* are the scans of adults with nearly cubic voxels; *usable* are all real heads, thick slices and the child too,
but one that was stripped with loss of cortex. How the gates follow from the table is told in docs/qc.md. Exits with 1
when a usable scan fails or is refused, when the badly stripped one does not fail, when the sphere is not refused, when
the child is not flagged, or when a good scan is flagged.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi

from brainage_bids.errors import BrainageError
from brainage_bids.preprocess import brain as masks
from brainage_bids.preprocess import quality, steps
from brainage_bids.preprocess.affine import Fit, register, set_threads
from brainage_bids.preprocess.intake import Brain, Native, read_scan
from brainage_bids.preprocess.template import load_template
from brainage_bids.schema import QC_METRICS

SPHERE, CHILD = "phantom_unknown", "fnndsc"
FLAWED = "ds002748-2mm/sub-45"  # stripped with loss of cortex and with neck left in, as its pictures show
SPOILED = ("ds000011/sub-01", "deepwmh")
FWHM = 2.3548200450309493


def scans(data: Path, every: int) -> list[Path]:
    found = sorted(data.glob("ds000011/**/*T1w.nii.gz")) + sorted(data.glob("openms/**/*T1w.nii.gz"))
    return [*found, *sorted(data.glob("scans/*.nii.gz")), *sorted(data.glob("ds002748-2mm/**/*T1w.nii.gz"))[::every]]


def cut(native: Native, mask: np.ndarray, axis: int, low: bool, fraction: float) -> Native:
    """Return the scan without a share of the brain's extent along an axis."""
    box = quality.box_of(mask)[axis]
    n = round(fraction * (box.stop - box.start))
    keep = [slice(None)] * 3
    keep[axis] = slice(box.start + n, None) if low else slice(0, box.stop - n)
    affine = native.affine.copy()
    if low:
        affine[:3, 3] += affine[:3, axis] * (box.start + n)
    return Native(np.ascontiguousarray(native.data[tuple(keep)]), affine)


def ghosted(native: Native, share: float) -> Native:
    """Return the scan with two ghosts 25 mm off along y, as from motion between two halves of the acquisition."""
    shift = round(25 / native.zooms[1])
    ghost = (np.roll(native.data, shift, 1) + np.roll(native.data, -shift, 1)) / 2
    return Native(((1 - share) * native.data + share * ghost).astype(np.float32), native.affine)


def resized(mask: np.ndarray, zooms: np.ndarray, factor: float) -> np.ndarray:
    """Return the mask grown or shrunk evenly to ``factor`` times its volume."""
    depth = ndi.distance_transform_edt(mask, sampling=zooms) - ndi.distance_transform_edt(~mask, sampling=zooms)
    return depth >= np.partition(depth.ravel(), -int(factor * mask.sum()))[-int(factor * mask.sum())]


def spoiled(native: Native, brain: Brain, fit: Fit) -> Iterator[tuple[str, object]]:
    """Yield a name and a spoiled scan, mask, or fit."""
    rng = np.random.default_rng(1)
    white = np.percentile(native.data[brain.mask], 90)
    for share in (0.1, 0.2, 0.3):
        yield f"top {share:.0%} cut", cut(native, brain.mask, 2, False, share)
        yield f"bottom {share:.0%} cut", cut(native, brain.mask, 2, True, share)
    yield "left half missing", cut(native, brain.mask, 0, True, 0.5)
    for share in (0.1, 0.2, 0.4):
        noisy = np.abs(native.data + rng.normal(0, share * white, native.data.shape)).astype(np.float32)
        yield f"noise {share:.0%} of white", Native(noisy, native.affine)
    for width in (4, 8):
        yield f"blur {width} mm", Native(ndi.gaussian_filter(native.data, width / FWHM / native.zooms), native.affine)
    for share in (0.2, 0.4):
        yield f"ghost {share:.0%}", ghosted(native, share)
    for factor in (1.3, 0.7):
        yield f"mask x {factor}", resized(brain.mask, native.zooms, factor)
    for axis, name in enumerate("xyz"):
        move = np.eye(4)
        move[axis, 3] = 10
        yield f"fit off by 10 mm, {name}", Fit(fit.matrix @ move, fit.ncc)


def measured(native: Native, template) -> tuple[Brain, Fit, dict]:
    brain = steps.find_brain(native)
    brain, fit = steps.align(native, brain, template)
    return brain, fit, quality.measure(brain, fit, template)


def metrics_of(native: Native, brain: Brain, fit: Fit, change: object, template) -> dict:
    """Return the metrics of a spoiled copy, by the whole chain or by what the change leaves of it."""
    if isinstance(change, Native):
        brain = steps.find_brain(change)
        fit = register(brain.data, brain.mask, brain.affine, template)
        return quality.measure(brain, fit, template)
    if isinstance(change, Fit):
        return quality.measure(brain, change, template)
    data, _ = masks.lift_negative(native.data, change)
    other = Brain(masks.n4(data, change, native.zooms), change, native.affine, "spoiled")
    return quality.measure(other, register(other.data, change, native.affine, template), template)


def collect(data: Path, every: int, cache: Path | None) -> tuple[dict, dict]:
    """Return the metrics of every real scan, and those of every spoiled copy (a text where it was refused earlier)."""
    template, real, bad = load_template(), {}, {}
    for path in scans(data, every):
        name = path.relative_to(data).as_posix()
        kept = cache / f"{name.replace('/', '_')}.json" if cache else None
        if kept is None or not kept.is_file():
            result = _one(read_scan(path), name, template)
            if kept is None:
                real[name], copies = result
                bad |= copies
                continue
            cache.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(result))
        result = json.loads(kept.read_text())
        real[name] = result[0]
        bad |= result[1]
        print(name, file=sys.stderr, flush=True)
    return real, bad


def _one(native: Native, name: str, template) -> tuple[dict, dict]:
    brain, fit, found = measured(native, template)
    copies = {}
    if any(part in name for part in SPOILED):
        for kind, change in spoiled(native, brain, fit):
            try:
                copies[f"{kind}: {name}"] = metrics_of(native, brain, fit, change, template)
            except BrainageError as error:
                copies[f"{kind}: {name}"] = str(error)
    return found, copies


def ranges(found: list[dict], name: str) -> tuple[float, float]:
    values = np.asarray([m[name] for m in found], dtype=float)
    return (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (np.nan, np.nan)


def limit_words(low: float, high: float) -> str:
    if np.isinf(low) or np.isinf(high):
        return f"> {high:g}" if np.isinf(low) else f"< {low:g}"
    return f"< {low:g}, > {high:g}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    set_threads(1)
    real, bad = collect(options.data, options.every, options.cache)
    heads = {name: m for name, m in real.items() if SPHERE not in name and FLAWED not in name}
    good = [m for name, m in heads.items() if not any(part in name for part in ("openms", CHILD))]
    numbers = [m for m in bad.values() if isinstance(m, dict)]
    print(f"{len(real)} scans: {len(good)} good, {len(heads)} usable; {len(bad)} spoiled copies\n")
    print("| metric | good | usable | spoiled | warn | fail | refuse |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name in QC_METRICS:
        spans = [
            f"{low:.3g} to {high:.3g}" for low, high in (ranges(m, name) for m in (good, list(heads.values()), numbers))
        ]
        limits = [gates.get(name) for gates in (quality.WARN, quality.FAIL, quality.REFUSE)]
        shown = ["" if ends is None else limit_words(*ends) for ends in limits]
        print(f"| {name} | {' | '.join([*spans, *shown])} |")
    print("\n| scan | verdict | reasons |\n| --- | --- | --- |")
    wrong = []
    for name, found in [*real.items(), *bad.items()]:
        verdict, reasons = judged(found)
        if verdict != "passed" or name in bad:
            print(f"| {name} | {verdict} | {'; '.join(reasons)} |")
        if (name in heads and verdict in ("refused", "failed")) or (SPHERE in name and verdict != "refused"):
            wrong.append(f"{name} is {verdict}")
        if FLAWED in name and verdict != "failed":
            wrong.append(f"the badly stripped brain is {verdict}")
        if CHILD in name and verdict != "warned":
            wrong.append(f"the child is {verdict}")
        if found in good and verdict == "warned":
            wrong.append(f"{name} is flagged: {'; '.join(reasons)}")
    kinds = sorted({name.partition(":")[0] for name in bad})
    print("\n| spoiled | refused | failed | warned | not noticed |\n| --- | --- | --- | --- | --- |")
    for kind in kinds:
        verdicts = [judged(m)[0] for name, m in bad.items() if name.partition(":")[0] == kind]
        print(f"| {kind} | {' | '.join(str(verdicts.count(v)) for v in ('refused', 'failed', 'warned', 'passed'))} |")
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    sys.exit(1 if wrong else 0)


def judged(found: dict | str) -> tuple[str, list[str]]:
    if isinstance(found, str):
        return "refused", [found]
    refuse, fail, warn = quality.judge({name: np.nan if v is None else v for name, v in found.items()})
    verdict = "refused" if refuse else "failed" if fail else "warned" if warn else "passed"
    return verdict, list(dict.fromkeys([*refuse, *fail, *warn]))


if __name__ == "__main__":
    main()
