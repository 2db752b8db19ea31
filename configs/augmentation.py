"""Named augmentations; every config takes the name after a colon, and any field can still be overridden.

    liver-jax compare --config=configs/lits.py:nnunet --config.data.raw=PATH --workdir=runs/lits_nnunet

`light` is the default. `nnunet` is what nnU-Net trains 2D networks with, in units of our window.
"""

from ml_collections import ConfigDict

from liver_jax.errors import UserError


def preset(name: str) -> ConfigDict:
    """The preset of that name."""
    presets = {'light': light, 'nnunet': nnunet}
    if name not in presets:
        raise UserError(
            f'augmentation {name!r} (after the colon of --config) is not known; known: {", ".join(presets)}'
        )
    return presets[name]()


def light() -> ConfigDict:
    """Small movements and changes of intensity. Of each transform: probability per slice in [0, 1], and range."""
    augment = ConfigDict()
    augment.flip = 0.5  # probability of a left-right mirror image
    augment.flip_rows = 0.0  # probability of an upside-down one
    augment.rotate = 0.5  # probability of a rotation
    augment.rotate_degrees = 15.0  # drawn from [-this, this]
    augment.scale = 0.5  # probability of zooming
    augment.scale_range = (0.85, 1.2)  # >1 magnifies
    augment.shift = 0.5  # probability of a shift
    augment.shift_fraction = 0.08  # drawn from [-this, this] of the side, for rows and columns
    augment.elastic = 0.2  # probability of an elastic deformation
    augment.elastic_grid = 5  # control points per side of the coarse grid
    augment.elastic_fraction = 0.02  # standard deviation of a control point's displacement, as part of the side
    augment.noise = 0.3  # probability of Gaussian noise
    augment.noise_std = 0.03  # drawn from [0, this], in units of the window
    augment.blur = 0.0  # probability of a Gaussian blur
    augment.blur_range = (0.5, 1.0)  # its sigma in pixels, drawn for rows and columns apart
    augment.brightness = 0.3  # probability of adding a constant
    augment.brightness_delta = 0.1  # drawn from [-this, this], in units of the window
    augment.factor = 0.0  # probability of multiplying the distance to factor_center
    augment.factor_range = (0.75, 1.25)  # by this
    augment.factor_center = 0.65  # the intensity that stays, in units of the window: 0.65 is 100 HU, liver
    augment.contrast = 0.3  # probability of scaling about the slice's mean
    augment.contrast_range = (0.8, 1.25)  # >1 raises contrast
    augment.coarsen = 0.0  # probability of going through a coarser grid
    augment.coarsen_range = (0.5, 1.0)  # its side, as part of the slice's
    augment.gamma_inverted = 0.0  # probability of a power law on the negative image
    augment.gamma = 0.3  # probability of a power law
    augment.gamma_range = (0.75, 1.33)  # the exponent of both; <1 brightens, inverted it darkens
    augment.gamma_keeps_stats = False  # whether both keep the slice's mean and standard deviation
    return augment


def nnunet() -> ConfigDict:
    """What nnU-Net trains 2D networks with (nnunetv2 2.8, `nnUNetTrainer.get_training_transforms`), single channel.

    nnU-Net works on intensities clipped to -17..201 HU, less the mean of the foreground, divided by its standard
    deviation: for LiTS 99.4 and 39.4 HU. One of its units is thus 39.4 / 400 = 0.0985 of our window (-160..240 HU),
    and its zero lies at (99.4 + 160) / 400 = 0.65. What acts per channel with probability 1/2 has half the
    probability here. It draws contrast, factor and gamma half below 1 and half above, we log-uniformly.
    """
    augment = ConfigDict()
    augment.flip = 0.5  # mirroring of both axes in the plane
    augment.flip_rows = 0.5  # the other axis
    augment.rotate = 0.2  # p_rotation
    augment.rotate_degrees = 180.0  # of patches less oblong than 3:2, others 15
    augment.scale = 0.2  # p_scaling
    augment.scale_range = (1 / 1.4, 1 / 0.7)  # 0.7..1.4 there, where >1 makes smaller
    augment.shift = 0.0  # none beside the choice of the patch
    augment.shift_fraction = 0.0  # so nothing to draw
    augment.elastic = 0.2  # 0 since nnU-Net's second trainer; 0.2 is p_eldef of the first (version 1, 2D)
    augment.elastic_grid = 5  # version 1 smooths with a sigma of 9..13 pixels: about such a grid at 128 pixels
    augment.elastic_fraction = 0.012  # version 1: alpha 0..200 at that sigma, on average 1.5 of 128 pixels
    augment.noise = 0.1  # probability of Gaussian noise
    augment.noise_std = 0.01  # "variance" 0..0.1 there, which it uses as standard deviation; times 0.0985
    augment.blur = 0.1  # 0.2, and 0.5 per channel
    augment.blur_range = (0.5, 1.0)  # in pixels
    augment.brightness = 0.0  # nothing is added
    augment.brightness_delta = 0.0  # so nothing to draw
    augment.factor = 0.15  # its brightness: multiplied after normalisation, which leaves the mean foreground alone
    augment.factor_range = (0.75, 1.25)  # the factor
    augment.factor_center = 0.65  # its zero, see above
    augment.contrast = 0.15  # about the slice's mean, as here
    augment.contrast_range = (0.75, 1.25)  # the factor
    augment.coarsen = 0.125  # 0.25, and 0.5 per channel
    augment.coarsen_range = (0.5, 1.0)  # the coarse side
    augment.gamma_inverted = 0.1  # its GammaTransform with p_invert_image=1
    augment.gamma = 0.3  # and with 0
    augment.gamma_range = (0.7, 1.5)  # the exponent
    augment.gamma_keeps_stats = True  # p_retain_stats=1
    return augment
