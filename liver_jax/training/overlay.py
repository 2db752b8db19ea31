"""The small pictures in TensorBoard: CT with reference and prediction outlined."""

import numpy as np

REFERENCE, PREDICTION = (0, 158, 115), (230, 159, 0)  # Okabe and Ito's green and orange


def overlay(images: np.ndarray, references: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """uint8 images, boolean masks [N, H, W] -> one uint8 picture [H, N * W, 3]; green reference, orange prediction."""
    picture = np.repeat(images[..., None], 3, axis=-1)
    picture[_outline(references)] = REFERENCE
    picture[_outline(predictions)] = PREDICTION
    return np.concatenate(list(picture), axis=1)


def _outline(masks: np.ndarray) -> np.ndarray:
    """The pixels of each mask [N, H, W] that touch a pixel outside it."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    inner = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return masks & ~inner
