"""`liver-jax replay RECORD`: the step of a flight record once more, and where it went wrong."""

from typing import Any

import jax

from liver_jax.data.records import as_words
from liver_jax.runtime.environment import describe_environment, environment_changes
from liver_jax.runtime.mesh import make_mesh, put_batch, replicated
from liver_jax.training.examine import Found, all_finite, examine_step, examine_validation, first_layer
from liver_jax.training.feed import augment_records
from liver_jax.training.flight import Flight, fill_state
from liver_jax.training.recipe import make_recipe
from liver_jax.training.state import state_shape

_COLUMNS = ('parameters', 'output', 'gradient', 'update')


def replay(flight: Flight) -> str:
    """Compute the step again on as many devices as can share its batch; what was found, in words and tables.

    Raises:
        UserError: a record whose state does not fit its config.
    """
    config, about = flight.config, flight.about
    recipe = make_recipe(config, about['epoch_steps'])
    batch = {name: flight.batch[name] for name in ('image', 'mask')}
    share = len(batch['image']) // recipe.accumulate
    mesh = make_mesh(max(n for n in range(1, jax.device_count() + 1) if share % n == 0))
    like = state_shape(recipe, config.data.image_size)
    state = jax.device_put(fill_state(like, flight.state), replicated(mesh))
    if about['kind'] == 'validation':
        found = examine_validation(recipe, mesh, state, put_batch(batch, mesh))
    else:
        draws = flight.batch['draws']
        augment = jax.jit(augment_records, static_argnames='layout')
        device = put_batch({**batch, 'draws': as_words(draws)}, mesh)
        augmented = augment(device['image'], device['mask'], device['draws'], layout=draws.dtype)
        found = examine_step(recipe, mesh, state, augmented)
    return describe(about, found)


def describe(about: dict[str, Any], found: Found) -> str:
    """What went wrong, whether it did so again, where it began, the layers, the slices."""
    again = 'here all numbers are finite: NOT REPRODUCED' if all_finite(found) else 'reproduced'
    changes = environment_changes(about['environment'], describe_environment())
    names = sorted(found['numbers'], key=lambda name: name != 'loss')
    numbers = ', '.join(f'{name.replace("_", " ")} {found["numbers"][name]:.6g}' for name in names)
    lines = [
        f'{about["kind"]} at step {about["step"]}: the {about["what"]} was {about["value"]}; {again}',
        f'recorded in another environment ({"; ".join(changes)})' if changes else 'in the same environment',
        numbers,
        *_beginnings(found),
        '',
        *_layer_table(found),
        '',
        *_slice_table(about, found),
    ]
    return '\n'.join(lines)


def _beginnings(found: Found) -> list[str]:
    """Where each quantity first is not finite."""
    ways = [
        ('parameters', False, 'first parameters whose norm is not finite, from the image on'),
        ('output', False, 'first output that is not finite, from the image on'),
        ('gradient', True, 'first gradient whose norm is not finite, from the loss back'),
        ('update', True, 'first update whose norm is not finite, from the loss back'),
    ]
    layers = [(words, first_layer(found, name, backwards)) for name, backwards, words in ways]
    return [f'{words}: {layer}' for words, layer in layers if layer]


def _layer_table(found: Found) -> list[str]:
    """A row per layer, in the order of the network."""
    names = [name for name in _COLUMNS if name in found['layers'][0]]
    rows = ['L2 norms, and the greatest absolute output', f'{"layer":<24}' + ''.join(f'{n:>12}' for n in names)]
    return rows + [
        f'{each["layer"]:<24}' + ''.join(f'{each[name]:>12.4g}' for name in names) for each in found['layers']
    ]


def _slice_table(about: dict[str, Any], found: Found) -> list[str]:
    """A row per slice of the batch."""
    width = max(len(each['case']) for each in about['slices'])
    losses = found.get('losses')
    rows = [f'{"case":<{width}}  slice  image min  image max' + ('        loss' if losses else '')]
    for number, (each, (low, high)) in enumerate(zip(about['slices'], found['images'], strict=True)):
        loss = f'{losses[number]:>12.4g}' if losses else ''
        rows.append(f'{each["case"]:<{width}}  {each["slice"]:>5}  {low:>9.4g}  {high:>9.4g}{loss}')
    return rows
