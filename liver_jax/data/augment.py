"""Augmentation on the device: draws (see `draws`) applied to image and mask together, one resampling for all of it."""

import jax
import jax.numpy as jnp

Draws = dict[str, jax.Array]


def augment_batch(images: jax.Array, masks: jax.Array, draws: Draws) -> dict[str, jax.Array]:
    """uint8 images and masks [N, H, W] and draws [N, ...] -> float32 'image' and 'mask' [N, H, W, 1] in [0, 1].

    Geometry moves both by linear interpolation (outside: zero, the lower end of the window); intensity and noise
    change the image alone.
    """
    return jax.vmap(_augment)(images, masks, draws)


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [N, H, W] in 0..255 -> float32 [N, H, W, 1] in [0, 1], the same as augmentation with identity draws."""
    return images[..., None].astype(jnp.float32) / 255


def _augment(image: jax.Array, mask: jax.Array, draws: Draws) -> dict[str, jax.Array]:
    both = jnp.stack([image, mask], axis=-1).astype(jnp.float32) / 255
    rows, columns = _source_coordinates(image.shape, draws)
    both = jnp.minimum(_interpolate(both, rows, columns), 1)  # rounding of the weights takes it past 1
    return {'image': _intensity(both[..., 0], draws)[..., None], 'mask': both[..., 1:]}


def _source_coordinates(shape: tuple[int, ...], draws: Draws) -> tuple[jax.Array, jax.Array]:
    """For each output pixel the row and column it comes from: undo shift, scale, rotation, flips; then elastic."""
    height, width = shape
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2 - draws['shift'][0] * height
    columns = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2 - draws['shift'][1] * width
    cos, sin = jnp.cos(draws['angle']) / draws['scale'], jnp.sin(draws['angle']) / draws['scale']
    source_rows = (cos * rows + sin * columns) * (1 - 2 * draws['flip_rows'])
    source_columns = (cos * columns - sin * rows) * (1 - 2 * draws['flip'])
    bend = jax.image.resize(draws['elastic'], (height, width, 2), 'cubic')
    return (
        source_rows + (height - 1) / 2 + bend[..., 0] * height,
        source_columns + (width - 1) / 2 + bend[..., 1] * width,
    )


def _interpolate(planes: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Bilinear [H, W, C] at rows, columns [H, W]; zero outside. One gather serves all C planes."""
    height, width, _ = planes.shape
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = rows - top, columns - left
    result = jnp.zeros_like(planes)
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = jnp.clip(row, 0, height - 1).astype(jnp.int32), jnp.clip(column, 0, width - 1).astype(jnp.int32)
            result += planes[index] * jnp.where(inside, row_weight * column_weight, 0)[..., None]
    return result


def _intensity(image: jax.Array, draws: Draws) -> jax.Array:
    """Noise, blur, brightness, contrast, low resolution, inverted gamma, gamma, in nnU-Net's order; stays in [0, 1].

    All is written so that identity draws give each pixel back to the last bit. Contrast and gamma keep to the window,
    where nnU-Net keeps to the darkest and the brightest pixel of the slice.
    """
    image += draws['noise_std'] * jax.random.normal(jax.random.key(draws['noise_seed']), image.shape)
    image = _blur(image, draws['blur'])
    image = image * draws['factor'] + draws['brightness']
    image = image * draws['contrast'] + image.mean() * (1 - draws['contrast'])
    image = _coarsen(jnp.clip(image, 0, 1), draws['zoom'])
    image = _gamma(image, draws['gamma_inverted'], draws['keeps_stats'], inverted=True)
    image = _gamma(image, draws['gamma'], draws['keeps_stats'], inverted=False)
    return jnp.clip(image, 0, 1)


def _blur(image: jax.Array, kernels: jax.Array) -> jax.Array:
    """Along rows with kernels[0], along columns with kernels[1] (see `draws.blur_kernel`); mirrored at the borders."""
    radius = kernels.shape[1] - 1
    for axis, kernel in enumerate(kernels):
        side = image.shape[axis]
        padding = [(radius, radius) if each == axis else (0, 0) for each in (0, 1)]
        padded = jnp.pad(image, padding, mode='reflect')
        image = kernel[0] * image
        for step in range(1, radius + 1):
            before = jax.lax.slice_in_dim(padded, radius - step, radius - step + side, axis=axis)
            after = jax.lax.slice_in_dim(padded, radius + step, radius + step + side, axis=axis)
            image += kernel[step] * (before + after)
    return image


def _coarsen(image: jax.Array, zoom: jax.Array) -> jax.Array:
    """The nearest pixels of a grid with `zoom` times the side, linearly enlarged again, as in nnU-Net."""
    for side in image.shape:  # gathering whole rows, then those of the transposed image, is faster than columns
        first, second, weight = _through_coarse_grid(side, zoom)
        near, far = image[first], image[second]
        image = (near + weight[:, None] * (far - near)).T
    return image


def _through_coarse_grid(side: int, zoom: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each pixel of a line the two that the coarse grid's neighbours show, and the weight of the second.

    Pixel i lies at (i + 1/2) * coarse / side - 1/2 of the coarse grid, whose pixel j shows pixel
    (j + 1/2) * side / coarse, rounded down. Whole numbers keep this exact, so that zoom 1 is the identity.
    """
    coarse = jnp.maximum(jnp.round(side * zoom), 1).astype(jnp.int32)
    place = jnp.maximum((2 * jnp.arange(side) + 1) * coarse - side, 0)
    before, rest = place // (2 * side), place % (2 * side)
    first, second = ((2 * each + 1) * side // (2 * coarse) for each in (before, jnp.minimum(before + 1, coarse - 1)))
    return first, second, rest.astype(jnp.float32) / (2 * side)


def _gamma(image: jax.Array, exponent: jax.Array, keeps_stats: jax.Array, *, inverted: bool) -> jax.Array:
    """A power law on the window, or on its negative; on request with the image's mean and standard deviation."""
    unit = jnp.clip(image, 0, 1)
    # On CPUs the power is several times slower than its logarithm; that of 0 is -inf, and comes back as 0.
    power = jnp.exp(exponent * jnp.log(1 - unit if inverted else unit))
    bent = 1 - power if inverted else power
    kept = (bent - bent.mean()) * (unit.std() / jnp.maximum(bent.std(), 1e-7)) + unit.mean()
    return jnp.where(exponent == 1, unit, jnp.where(keeps_stats == 1, kept, bent))
