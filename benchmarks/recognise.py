"""How a scan that was bias-corrected, or brought to MNI space, before it came differs from one that was not.

Run ``python benchmarks/recognise.py IMAGE...``. One row an image: where its mask comes from; the SD inside the brain
of the log field that N4 finds in the image as it is, after our own N4, and after SimpleITK's N4 with other settings
(shrink 4, default tolerance); how far the affine moves the template's brain (mm), and whether header or grid says MNI.
The thresholds of ``brainage_bids/preprocess/recognise.py`` and the table in ``docs/reuse.md`` come from here.
"""

import sys

import numpy as np
import SimpleITK as sitk
import torch

from brainage_bids.errors import BadDataError
from brainage_bids.preprocess import brain
from brainage_bids.preprocess.affine import register
from brainage_bids.preprocess.intake import read_scan
from brainage_bids.preprocess.recognise import field_spread, moved_mm
from brainage_bids.preprocess.template import load_template


def other_n4(data, mask, zooms):
    image, region = (sitk.GetImageFromArray(np.ascontiguousarray(a.T)) for a in (data, mask.astype(np.uint8)))
    for one in (image, region):
        one.SetSpacing([float(z) for z in zooms])
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([50] * 4)
    corrector.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(region, [4] * 3))
    corrected = image / sitk.Exp(corrector.GetLogBiasFieldAsImage(image))
    return np.maximum(sitk.GetArrayFromImage(corrected).T, 0).astype(np.float32)


def main():
    torch.set_num_threads(1)
    template = load_template()
    print("image\tmask\tas it is\tafter our N4\tafter other N4\tmoved mm\tsays MNI")
    for path in sys.argv[1:]:
        try:
            native = read_scan(path)
            mask, source = brain.brain_mask(native)
        except BadDataError as error:
            print(f"{path}\t{error}")
            continue
        data, _ = brain.lift_negative(native.data, mask)
        ours, other = brain.n4(data, mask, native.zooms), other_n4(data, mask, native.zooms)
        fields = [field_spread(a, brain.n4(a, mask, native.zooms), mask) for a in (data, ours, other)]
        moved = moved_mm(register(ours, mask, native.affine, template).matrix, template)
        told = "\t".join(f"{field:.3f}" for field in fields)
        print(f"{path}\t{source}\t{told}\t{moved:.1f}\t{native.says_mni}", flush=True)


if __name__ == "__main__":
    main()
