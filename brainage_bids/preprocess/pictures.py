"""The two pictures to look at before trusting a volume: the mask on the scan, the template's edges on the volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
from PIL import Image

from brainage_bids.bids.files import atomic
from brainage_bids.schema import VolumeSpec

PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))
FRACTIONS = (0.3, 0.42, 0.58, 0.7)  # where along the brain the slices lie
OUTLINE, EDGE = "#D55E00", "#56B4E9"  # Okabe-Ito vermilion and sky blue


def mask_picture(path: Path, data: np.ndarray, mask: np.ndarray, affine: np.ndarray, title: str) -> None:
    """Draw the brain mask's outline on the native scan (RAS+ array), three planes."""
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    high = np.percentile(data[mask], 99.5)
    _draw(path, data / max(high, 1e-12), mask, mask, zooms, OUTLINE, f"{title}: brain mask on the native scan")


def template_picture(
    path: Path, volume: np.ndarray, inside: np.ndarray, template_t1: np.ndarray, spec: VolumeSpec, title: str
) -> None:
    """Draw the template's brain surface and ventricles over the preprocessed volume, three planes."""
    smooth = ndi.gaussian_filter(template_t1, 1.0 / max(spec.resolution, 1.0))
    brain = template_t1 > 0
    tissue = smooth > 0.45 * np.percentile(smooth[brain], 90)  # leaves out ventricles and sulci
    zooms = np.full(3, spec.resolution)
    shown = volume / max(float(np.percentile(volume[inside], 99.5)), 1e-12)
    _draw(path, shown, tissue, brain, zooms, EDGE, f"{title}: template edges on the preprocessed volume")


def _draw(
    path: Path, data: np.ndarray, outlined: np.ndarray, where: np.ndarray, zooms: np.ndarray, colour: str, title: str
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.4), dpi=85, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(FRACTIONS), gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    box = ndi.find_objects(where.astype(np.uint8))[0]
    for row, (plane, axis) in enumerate(PLANES):
        for column, fraction in enumerate(FRACTIONS):
            at = int(box[axis].start + fraction * (box[axis].stop - box[axis].start))
            picture, line = (np.take(array, at, axis=axis).T for array in (data, outlined))
            across, up = (zooms[k] for k in range(3) if k != axis)
            panel = axes[row, column]
            panel.imshow(
                picture, cmap="gray", vmin=0, vmax=1.1, origin="lower", aspect=up / across, interpolation="bilinear"
            )
            if line.any() and not line.all():
                panel.contour(line, levels=[0.5], colors=colour, linewidths=0.8)
            panel.set_axis_off()
            letters = ("P", "A") if plane == "sagittal" else ("L", "R")
            for x, letter, side in ((0.02, letters[0], "left"), (0.98, letters[1], "right")):
                panel.text(x, 0.5, letter, color="white", fontsize=8, ha=side, va="center", transform=panel.transAxes)
    figure.subplots_adjust(0, 0, 1, 0.95)
    figure.text(0.01, 0.97, title, color="white", fontsize=9, va="center")
    figure.text(
        0.99, 0.97, "left of the picture = left of the person", color="white", fontsize=8, va="center", ha="right"
    )
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    with atomic(path) as temporary:  # 40 colours are enough for grey, an outline and letters, and keep the file small
        picture.quantize(40, dither=Image.Dither.NONE).save(temporary, format="png", optimize=True)
