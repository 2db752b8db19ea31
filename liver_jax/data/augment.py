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
    both = _interpolate(both, rows, columns)
    return {'image': _intensity(both[..., 0], draws)[..., None], 'mask': both[..., 1:]}


def _source_coordinates(shape: tuple[int, ...], draws: Draws) -> tuple[jax.Array, jax.Array]:
    """For each output pixel the row and column it comes from: undo shift, scale, rotation, flip; then elastic."""
    height, width = shape
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2 - draws['shift'][0] * height
    columns = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2 - draws['shift'][1] * width
    cos, sin = jnp.cos(draws['angle']) / draws['scale'], jnp.sin(draws['angle']) / draws['scale']
    source_rows = cos * rows + sin * columns
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
    """Contrast about the mean, brightness, gamma and noise; the result stays in [0, 1]."""
    # Written so that contrast 1 and gamma 1 give each pixel back to the last bit.
    image = image * draws['contrast'] + image.mean() * (1 - draws['contrast']) + draws['brightness']
    unit = jnp.clip(image, 0, 1)
    image = jnp.where(draws['gamma'] == 1, unit, unit ** draws['gamma'])
    noise = jax.random.normal(jax.random.key(draws['noise_seed']), image.shape)
    return jnp.clip(image + draws['noise_std'] * noise, 0, 1)
