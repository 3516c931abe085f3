"""The sections of a recipe: every number that defines how a model is trained, with its default."""

from __future__ import annotations

from dataclasses import dataclass, field

from brainage_bids.schema import DEFAULT_BRAIN_MM, DEFAULT_TEMPLATE, DEFAULT_TEMPLATE_SHA

LENGTHS = ("epochs", "steps", "auto")  # see `lengths`


@dataclass(frozen=True)
class VolumeSettings:
    """The volume: isotropic voxel size (mm) on the paper's field of view, template and intensity rule.

    ``template_sha`` pins the template's content (see `VolumeSpec`); it is filled in when the template is at hand, as is
    ``brain_mm``, the first and last mm of its brain along x, y and z. ``crop`` is what the network reads of the volume:
    ``none``, all of it; ``brain``, the box of the template's brain (see `box.brain_box`).
    """

    resolution: float
    template: str = DEFAULT_TEMPLATE
    intensity: str = "minmax"
    template_sha: str = DEFAULT_TEMPLATE_SHA
    crop: str = "none"
    brain_mm: tuple[int, ...] = DEFAULT_BRAIN_MM


@dataclass(frozen=True)
class NetworkSettings:
    """The network: ``resnet`` (see `resnet.ResNet3D`) or ``sfcn`` (see `sfcn.SFCN3D`: width and dropout only).

    ``bias_init``: the head's bias starts at the mean age of those who train (``train_mean``), or at ``zero`` as in the
    published Rank-N-Contrast settings: then few people never climb to their age. ``init`` is a finished model whose
    encoder the training starts from; with an ``init_lr`` of 0 the encoder stays as it is and only the head is trained.
    """

    architecture: str = "resnet"
    depth: int = 18
    width: int = 64
    dropout: float = 0.0
    stem_stride: int = 2
    stem_pool: bool = True
    stage_strides: tuple[int, ...] = (1, 2, 2, 2)
    bias_init: str = field(default="train_mean", metadata={"settled": "zero"})
    init: str = ""
    init_lr: float = 0.0


@dataclass(frozen=True)
class TrainingSettings:
    """The main stage: the encoder (``rnc``) or the whole network (``l1``).

    How long it is, says `lengths.epochs_of`. ``lr_decay`` acts through the ``cosine`` schedule, from lr to
    ``lr * lr_decay**3``. ``temperature`` divides the distances of the contrastive loss. ``clip_norm`` limits the
    gradient norm in every stage, 0 leaves it alone. ``patience`` is the number of epochs without a better validation
    error after which ``l1`` training stops, 0 means never. ``keep`` says which epoch of ``rnc`` training is kept: the
    ``last``, or that of the ``best_probe`` on validation people, who are
    looked at every ``probe_every`` epochs.
    """

    batch_size: int
    optimiser: str
    lr: float
    epochs: int = 0
    steps: int = 0
    least_steps: int = 0
    length: str = "epochs"
    schedule: str = "constant"
    lr_decay: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    temperature: float = 2.0
    clip_norm: float = 0.0
    patience: int = 0
    keep: str = "last"
    probe_every: int = 10


@dataclass(frozen=True)
class HeadSettings:
    """The second stage of ``rnc``: one linear layer on the frozen encoder.

    ``method`` is ``sgd`` (L1 loss, cosine schedule, best validation epoch) or ``ridge``: fitted in one step to the
    features of the training scans as they are, with the penalty that makes the ages of these people most likely; all
    other keys then do nothing. How long ``sgd`` is, says `lengths.epochs_of`. ``views`` is the number of
    augmented versions of each scan that the epochs go through in turn; 0 draws a new one in every epoch.
    """

    method: str = "sgd"
    epochs: int = 100
    steps: int = 0
    least_steps: int = 0
    length: str = "epochs"
    batch_size: int = 64
    lr: float = 0.05
    lr_decay: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 0.0
    views: int = 0


@dataclass(frozen=True)
class RidgeSettings:
    """The yardstick ``ridge`` (see `linear.LinearMap`): principal components kept, 0 for all; smoothing, FWHM in mm.

    ``ignore_contrast`` says whether the contrast of a scan must not change its age.
    """

    components: int = 0
    smoothing: float = 8.0
    ignore_contrast: bool = False


@dataclass(frozen=True)
class AugmentationSettings:
    """Strength of the paper's four augmentations and four of intensity; 0 (crop and gamma 1) switches one off.

    Parameters
    ----------
    enabled
        Whether the training augments at all.
    probability
        Chance of each augmentation, independently.
    translation_voxels
        Largest shift along each axis, voxels, both directions.
    translation_mm
        Above 0 it stands for ``translation_voxels``, so that a shift means the same on any grid.
    rotation_min, rotation_max
        Range of the rotation angle, radians.
    rotation_axes
        ``one``: about one random axis; ``each``: about x, then y, then z, each by an angle and a sign of its own.
    noise_sd
        Standard deviation of the Gaussian noise, in units of the intensity.
    crop_min
        Smallest share of each axis that a crop keeps, resized back.
    gamma_max
        Not in the paper: intensities of 0 to 1 are raised to a power between its inverse and it, log-uniform, which
        moves grey matter against white as another scanner or sequence does; 1 is off.
    field_max
        Not in the paper: intensities are multiplied by a smooth field, as a coil leaves one. Its log reaches from -s to
        s inside the head, s uniform from 0 to this.
    blur_mm
        Not in the paper: a Gaussian blurs the brain; FWHM in mm, uniform from 0 to this.
    slice_mm
        Not in the paper: slices along one random axis are made thicker and interpolated back; thickness in mm, uniform
        from 0 to this. What is thinner than a voxel changes nothing.
    """

    enabled: bool = True
    probability: float = 0.5
    translation_voxels: float = 10.0
    translation_mm: float = 0.0
    rotation_min: float = 0.1
    rotation_max: float = 0.5
    rotation_axes: str = "one"
    noise_sd: float = 0.025
    crop_min: float = 0.7
    gamma_max: float = 1.0
    field_max: float = 0.0
    blur_mm: float = 0.0
    slice_mm: float = 0.0

    @property
    def disturbs(self) -> dict[str, float]:
        """What is on of the augmentations of intensity that are not the paper's; they need intensities from 0 to 1."""
        keys = ("gamma_max", "field_max", "blur_mm", "slice_mm")
        return {key: getattr(self, key) for key in keys if getattr(self, key) != (1 if key == "gamma_max" else 0)}


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the trainable people held back; without folds both, with folds only the validation share."""

    val_share: float = 0.1
    test_share: float = 0.1
