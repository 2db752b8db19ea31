"""Losses by hand, against a peer, at the extremes, and their gradients against differences."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from liver_jax.metrics.losses import focal, make_loss, tversky

NAMES = ('bce', 'dice', 'dice_bce', 'focal', 'tversky')


def loss_of(name):
    settings = {'focal_alpha': 0.25, 'focal_gamma': 2.0, 'tversky_alpha': 0.3, 'tversky_beta': 0.7}
    return make_loss(SimpleNamespace(name=name, **settings))


def images(*rows):
    """Images of one row of pixels each, [N, 1, W, 1]."""
    return jnp.array(rows, float)[:, None, :, None]


# p = 1/2 and 3/4 on the masks 1 and 0: found are 1/2 of a pixel, 3/4 too much, 1/2 too little.
LOGITS, MASKS = images([0.0, np.log(3)]), images([1, 0])


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('bce', (np.log(2) + np.log(4)) / 2),
        ('dice', 1 - (2 * 1 / 2 + 1) / (1 / 4 + 9 / 16 + 1 + 1)),
        ('dice_bce', 1 - 2 / (45 / 16) + np.log(8) / 2),
        ('focal', (1 / 4 * 1 / 4 * np.log(2) + 3 / 4 * 9 / 16 * np.log(4)) / 2),
        ('tversky', 1 - (1 / 2 + 1) / (1 / 2 + 0.3 * 3 / 4 + 0.7 * 1 / 2 + 1)),
    ],
)
def test_hard_mask_by_hand(name, expected):
    assert loss_of(name)(LOGITS, MASKS).tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [  # p = 3/4 on the mask 1/2
        ('bce', (np.log(4) + np.log(4 / 3)) / 2),
        ('dice', 1 - (2 * 3 / 8 + 1) / (9 / 16 + 1 / 4 + 1)),
        ('dice_bce', 1 - 1.75 / (29 / 16) + (np.log(4) + np.log(4 / 3)) / 2),
        ('focal', 1 / 2 * 1 / 4 * (np.log(4) + np.log(4 / 3)) / 2),  # 1 - q is the mean of 1/4 and 3/4
        ('tversky', 1 - (3 / 8 + 1) / (3 / 8 + 0.3 * 3 / 8 + 0.7 * 1 / 8 + 1)),
    ],
)
def test_soft_mask_by_hand(name, expected):
    assert loss_of(name)(images([np.log(3)]), images([1 / 2])).tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_each_image_has_a_loss_of_its_own(name):
    together = loss_of(name)(images([0.0, 1.0], [2.0, -3.0]), images([1, 0], [0, 1]))
    alone = [loss_of(name)(images(logits), images(masks)) for logits, masks in (([0, 1], [1, 0]), ([2, -3], [0, 1]))]
    np.testing.assert_allclose(together, jnp.concatenate(alone), rtol=1e-6)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('mask', [0.0, 1.0, 0.5])
def test_empty_and_full_masks_are_finite_at_any_logit(name, mask):
    masks = jnp.full((5, 4, 4, 1), mask)
    logits = jnp.broadcast_to(jnp.array([-1e4, -30, 0, 30, 1e4])[:, None, None, None], masks.shape)
    slope = jax.grad(lambda x: loss_of(name)(x, masks).sum())(logits)
    assert np.isfinite(loss_of(name)(logits, masks)).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(('mask', 'logit'), [(0.0, -1e4), (1.0, 1e4)])
def test_a_perfect_prediction_costs_nothing(name, mask, logit):
    masks = jnp.full((1, 4, 4, 1), mask)
    assert loss_of(name)(jnp.full(masks.shape, logit), masks).tolist() == pytest.approx([0], abs=1e-6)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('mask', [0.0, 1.0])
def test_empty_and_full_masks_still_teach(name, mask):
    masks = jnp.full((1, 4, 4, 1), mask)
    slope = jax.grad(lambda x: loss_of(name)(x, masks).mean())(jnp.zeros(masks.shape))
    assert (slope * (0.5 - mask) > 0).all()  # down where there is nothing, up where there is


def test_the_best_prediction_of_a_soft_mask_by_dice_is_the_mask():
    masks = images([0.25, 0.5, 0.75, 0.9])
    logits = jnp.log(masks / (1 - masks))
    value, slope = jax.value_and_grad(lambda x: loss_of('dice')(x, masks).mean())(logits)
    assert value == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('mask', ['hard', 'soft', 'empty', 'full'])
def test_gradient_is_that_of_differences(name, mask):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        soft = rng.uniform(size=(2, 3, 4, 1))
        masks = {'hard': np.rint(soft), 'soft': soft, 'empty': 0 * soft, 'full': 0 * soft + 1}[mask]
        logits = jnp.array(rng.normal(0, 2, soft.shape))
        assert logits.dtype == jnp.float64
        check_grads(lambda x: loss_of(name)(x, jnp.array(masks)), (logits,), order=1, modes='rev', atol=1e-7, rtol=1e-7)


def test_tversky_is_that_of_optax():
    rng = np.random.default_rng(0)
    logits, masks = rng.normal(0, 2, (2, 3, 4, 1)), np.rint(rng.uniform(size=(2, 3, 4, 1)))
    theirs = optax.losses.dice_loss(logits, masks, smooth=1.0, alpha=0.3, beta=0.7)
    np.testing.assert_allclose(tversky(logits, masks, 0.3, 0.7), theirs, rtol=1e-5)


def test_focal_without_focus_is_half_of_cross_entropy():
    np.testing.assert_allclose(focal(LOGITS, MASKS, alpha=0.5, gamma=0.0), loss_of('bce')(LOGITS, MASKS) / 2, rtol=1e-6)
