"""One scan -> labels on its own grid: a network's probabilities thresholded there, then what was asked to be taken out.

A second network may look for the liver; tumour is then kept only within it.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from liver_jax import __version__
from liver_jax.data.certificate import read_record
from liver_jax.data.fingerprint import VoxelHash, whole_hu
from liver_jax.data.volumes import Scan
from liver_jax.errors import UserError
from liver_jax.evaluation.findings import LIVER, TUMOUR
from liver_jax.evaluation.postprocess import drop_small, keep_largest
from liver_jax.evaluation.run import Run, load_run
from liver_jax.evaluation.volumes import PredictedPlane, Predictor, make_predictor, predict_scan
from liver_jax.runtime.interrupt import Interrupted, StopRequest

log = logging.getLogger(__name__)
LABELS = {'tumor': TUMOUR, 'liver': LIVER, 'liver_or_tumor': LIVER}
MEANINGS = {'tumor': 'tumour', 'liver': 'liver without its tumours', 'liver_or_tumor': 'liver with its tumours'}
PROBABILITY_STEPS = 65535  # probabilities are stored as uint16: NIfTI knows no float16, and this is finer


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for beside labels.

    `flips` averages over mirrored slices; `fitted` takes threshold and smallest lesion from validation; pieces below
    `min_ml` millilitres are cleared, with `largest_component` all but the largest; `probabilities` keeps them.
    """

    flips: bool = False
    fitted: bool = False
    min_ml: float = 0.0
    largest_component: bool = False
    probabilities: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
    """A predictor with its target and threshold; `facts` say as plain data which network it is.

    `known` are the scans that it was trained or chosen on: part of the split and case, by the hash of their voxels.
    """

    predictor: Predictor
    target: str
    threshold: float
    facts: dict[str, Any]
    known: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is done to every scan alike; `liver` is the second network, None without one."""

    network: Network
    liver: Network | None = None
    options: Options = Options()

    @property
    def meanings(self) -> dict[int, str]:
        """The labels that are looked for, and what they stand for."""
        liver = {LIVER: MEANINGS['liver']} if self.liver else {}
        return {**liver, LABELS[self.network.target]: MEANINGS[self.network.target]}

    def describe(self) -> dict[str, Any]:
        """All that the result depends on beside the scan, as plain data."""
        return {
            'liver_jax': __version__,
            'network': self.network.facts,
            'liver_network': self.liver.facts if self.liver else None,
            **dataclasses.asdict(self.options),
        }


@dataclasses.dataclass(frozen=True)
class Segmented:
    """A scan segmented, in the canonical frame [slices, rows, columns].

    `labels` (uint8) are 0, 1 (liver) and 2 (tumour); `tumour_hu` the HU of the tumour's voxels in their order;
    `probabilities` (uint16, 0..65535) those of the network's target, None where not asked for. `content` is the hash
    of the scan's voxels that stores and splits have.
    """

    labels: np.ndarray
    tumour_hu: np.ndarray
    probabilities: np.ndarray | None
    content: str


def load_setup(workdir: Path, checkpoint: str, options: Options, liver_workdir: Path | None) -> Setup:
    """The network of a run folder, and of a second one that finds the liver for it (its best checkpoint).

    Raises:
        UserError: no such run or checkpoint, options that do not suit the network, a liver that is not seen whole.
    """
    network = _load(workdir, checkpoint, options.flips)
    if options.fitted:
        network, min_ml = _fitted(network, workdir)
        options = dataclasses.replace(options, min_ml=options.min_ml or min_ml)
    if options.largest_component and network.target == 'tumor':
        raise UserError(
            f"--largest_component: data.target of {workdir} is 'tumor', and lesions are often several; "
            'expected a network of the liver'
        )
    if not liver_workdir:
        return Setup(network, options=options)
    if network.target != 'tumor':
        raise UserError(
            f"--liver_workdir={liver_workdir}: data.target of {workdir} is {network.target!r}; expected 'tumor', "
            'leave --liver_workdir out'
        )
    liver = _load(liver_workdir, 'best', options.flips)
    if liver.target != 'liver_or_tumor':
        raise UserError(
            f"--liver_workdir={liver_workdir}: its data.target is {liver.target!r}; expected 'liver_or_tumor', for "
            'without its tumours a liver has holes where they are'
        )
    return Setup(network, liver, options)


def model_digest(run: Run) -> str:
    """SHA-256 of a network: its parameters and statistics, its architecture, how its input is prepared."""
    data = run.config.data
    shown = dataclasses.asdict(run.config.model), data.image_size, tuple(data.window), data.target
    digest = hashlib.sha256(repr(shown).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(run.variables)):
        digest.update(f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}'.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def segment(scan: Scan, setup: Setup, stop: StopRequest, title: str) -> Segmented:
    """Labels of a scan. The bar that shows progress is headed `title`.

    Raises:
        UserError: damaged file, probabilities that are no numbers.
        Interrupted: a stop was requested.
    """
    network, options = setup.network, setup.options
    within = _liver_mask(scan, setup.liver, stop, f'{title}, liver') if setup.liver else None
    label = LABELS[network.target]
    found = np.zeros(scan.size, bool)
    hu = [np.zeros(0, np.float32)] * scan.size[0]
    probabilities = np.zeros(scan.size, np.uint16) if options.probabilities else None
    content = VoxelHash(scan.size)
    for plane in _planes(scan, network, stop, title):
        content.add(plane.index, whole_hu(plane.hu))
        found[plane.index] = plane.probability >= network.threshold
        hu[plane.index] = plane.hu[found[plane.index]].astype(np.float32)
        if probabilities is not None:
            probabilities[plane.index] = np.rint(plane.probability * PROBABILITY_STEPS)
    kept = found.copy()
    if within is not None:
        kept &= within
    drop_small(kept, options.min_ml * 1000 / float(np.prod(scan.spacing)))
    if options.largest_component:
        keep_largest(kept)
    tumour_hu = np.concatenate(hu)[kept[found]] if label == TUMOUR else hu[0][:0]
    labels = np.zeros(scan.size, np.uint8) if within is None else within.astype(np.uint8) * LIVER
    labels[kept] = label
    return Segmented(labels, tumour_hu, probabilities, content.finish())


def _load(workdir: Path, checkpoint: str, flips: bool) -> Network:
    run = load_run(workdir, checkpoint)
    data, threshold = run.config.data, run.config.eval.threshold
    facts = {
        'model': run.config.model.name,
        'step': run.step,
        'sha256': model_digest(run),
        'target': data.target,
        'image_size': data.image_size,
        'window': list(data.window),
        'threshold': threshold,
    }
    return Network(make_predictor(run, flips), data.target, threshold, facts, _known(workdir))


def _fitted(network: Network, workdir: Path) -> tuple[Network, float]:
    """The network with the threshold that `evaluate` fitted to validation, and the smallest lesion in millilitres."""
    file = workdir / 'evaluation' / 'test.json'
    try:
        results = json.loads(file.read_text())
        step, fitted = results['step'], results['fitted']
        threshold, min_mm3 = float(fitted['threshold']), float(fitted['min_mm3'] or 0)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f'--fitted: {file} has no threshold that was fitted to validation; make it with '
            f'`liver-jax evaluate --workdir={workdir}`, with the slice store at hand'
        ) from error
    if step != network.facts['step']:
        raise UserError(
            f'--fitted: {file} is of step {step}, the checkpoint of step {network.facts["step"]}; expected the same, '
            'evaluate that --checkpoint first'
        )
    facts = network.facts | {'threshold': threshold}
    return dataclasses.replace(network, threshold=threshold, facts=facts), min_mm3 / 1000


def _known(workdir: Path) -> dict[str, dict[str, str]]:
    """The scans that the network knows; none, and a warning, where its split is not there to tell."""
    try:
        return read_record(workdir / 'split.json').known
    except UserError as error:
        log.warning('not known which scans trained this network: %s', error)
        return {}


def _liver_mask(scan: Scan, liver: Network, stop: StopRequest, title: str) -> np.ndarray:
    """The largest piece of liver: what is seen elsewhere is none."""
    mask = np.zeros(scan.size, bool)
    for plane in _planes(scan, liver, stop, title):
        mask[plane.index] = plane.probability >= liver.threshold
    keep_largest(mask)
    return mask


def _planes(scan: Scan, network: Network, stop: StopRequest, title: str) -> Iterator[PredictedPlane]:
    """Predicted planes, shown by a bar; ends where a stop was requested."""
    bar = tqdm(total=scan.size[0], desc=title, unit=' slices', disable=None, leave=False, dynamic_ncols=True)
    with bar:
        for plane in predict_scan(network.predictor, scan):
            if stop.requested:
                raise Interrupted('stopped, finished scans are kept')
            bar.update()
            yield plane
