"""Thin nipype wrapper: one node is one step of one scan. Everything else is in `steps`."""

from __future__ import annotations

import logging
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    SimpleInterface,
    TraitedSpec,
    traits,
)

# nipype reports every node on the terminal, in the workers too; outcomes and crash files say it better
for _name in ("nipype.workflow", "nipype.utils", "nipype.interface", "nipype.filemanip"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class _ScanStepInputs(BaseInterfaceInputSpec):
    step = traits.Str(mandatory=True, desc="brain, align, volumes or pictures")
    scan = traits.Any(mandatory=True, desc="the Scan")
    specs = traits.Any(mandatory=True, desc="tuple of VolumeSpec")
    outputs = traits.Any(mandatory=True, desc="Outputs")
    folder = traits.Str(mandatory=True, desc="work directory of the scan")
    threads = traits.Int(1, usedefault=True, desc="threads of this step")
    device = traits.Str("cpu", usedefault=True, desc="auto, cpu, cuda")


class _ScanStepOutputs(TraitedSpec):
    folder = traits.Str(desc="work directory of the scan")


class ScanStep(SimpleInterface):
    """Run `workflow.run_step`; its plain values go in and out unchanged."""

    input_spec = _ScanStepInputs
    output_spec = _ScanStepOutputs

    def _run_interface(self, runtime: Any) -> Any:
        from brainage_bids.preprocess.workflow import run_step

        values = self.inputs
        self._results["folder"] = run_step(
            values.step, values.scan, values.specs, values.outputs, values.folder, values.threads, values.device
        )
        return runtime
