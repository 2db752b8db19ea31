"""One pass over a part of a split, from which all readings of the networks on it come."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from liver_jax.config import Config
from liver_jax.data.slices import is_kept, prepare_slice
from liver_jax.data.volumes import Scan
from liver_jax.evaluation.baselines import (
    baseline_masks,
    ceiling_masks,
    prepared_target,
    score_baselines,
    target_of,
)
from liver_jax.evaluation.evaluate import HALF
from liver_jax.evaluation.fitting import Fitted, Pixels, case_logits, sum_pixels
from liver_jax.evaluation.native import ScanScores, WholePrediction, score_scan
from liver_jax.evaluation.panel import SliceCount, count_slice, counts_of_scores
from liver_jax.evaluation.postprocess import drop_small
from liver_jax.evaluation.scans import Part
from liver_jax.evaluation.scores import ImageScores
from liver_jax.evaluation.volumes import Predictor, predict_scan

FITTED = '_fitted'  # a model with the threshold and smallest lesion of validation, beside that of the config


@dataclasses.dataclass(frozen=True)
class Assessment:
    """Networks on a part: counts of every reading, pixels by logit, what was fitted.

    `scores` and `baselines` are of the prepared slices. `fitted` is empty where the validation slices are not at hand.
    `complete` as of the part.
    """

    target: str
    scores: Mapping[str, ImageScores]
    counts: list[SliceCount]
    pixels: dict[str, Pixels]
    fitted: Mapping[str, Fitted]
    baselines: dict[str, ImageScores]
    complete: bool
    threshold: float
    volumes: Sequence[ScanScores]

    def only(self, name: str) -> 'Assessment':
        """Of one of the networks."""
        others = {other + end for other in self.pixels if other != name for end in ('', FITTED)}
        return dataclasses.replace(
            self,
            scores={name: self.scores[name]},
            counts=[count for count in self.counts if count.model not in others],
            pixels={name: self.pixels[name]},
            fitted={each: fitted for each, fitted in self.fitted.items() if each == name},
            volumes=[scan.only(name) for scan in self.volumes],
        )


def assess(
    predictors: Mapping[str, Predictor],
    config: Config,
    part: Part,
    scores: Mapping[str, ImageScores],
    fitted: Mapping[str, Fitted],
) -> Assessment:
    """All readings of networks on a part.

    Args:
        predictors: The networks by name.
        config: What they have in common: target and threshold.
        part: What is scored.
        scores: Those of each network on the prepared slices of the part.
        fitted: What validation says of each network; empty where its slices are not at hand.
    """
    target, store = config.data.target, part.store
    hu_below = next((each.hu_below for each in fitted.values()), None)
    baselines = score_baselines(store, part.rows, target, hu_below)
    volumes: list[ScanScores] = []
    if part.scans:
        reading = _Reading(predictors, part, target, config.eval.threshold, fitted, hu_below, volumes)
        counts = [count for scan, patient in part.opened() for count in reading.count(scan, patient)]
    else:
        counts = [count for name, own in {**scores, **baselines}.items() for count in counts_of_scores(own, name)]
    pixels = {
        name: sum_pixels(case_logits(predictor, store, part.rows, target).values())
        for name, predictor in predictors.items()
    }
    return Assessment(target, scores, counts, pixels, fitted, baselines, part.complete, config.eval.threshold, volumes)


_Masks = tuple[np.ndarray, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How scans are counted; `volumes` grows by what each has as a volume, where all of its slices count."""

    predictors: Mapping[str, Predictor]
    part: Part
    target: str
    threshold: float
    fitted: Mapping[str, Fitted]
    hu_below: float | None
    volumes: list[ScanScores]

    def count(self, scan: Scan, patient: str) -> list[SliceCount]:
        """All counts of a scan; its predictions are held whole for the fitted readings and the scores of volumes."""
        counts: list[SliceCount] = []
        fitted = {name: np.zeros(scan.size, bool) for name in self.fitted}
        volumes = {
            name: WholePrediction(scan.size, self.threshold, self.target) for name in self.predictors if self.part.whole
        }
        all_labels = np.zeros(scan.size, np.uint8)
        tumors: dict[int, bool] = {}
        streams = (predict_scan(predictor, scan) for predictor in self.predictors.values())
        for planes in zip(*streams, strict=True):
            index, hu, labels = planes[0].index, planes[0].hu, planes[0].labels
            assert labels is not None  # stores are made from labelled volumes
            if not self.part.whole and (scan.case.name, index) not in self.part.slices:
                continue
            tumors[index] = is_kept(labels, 'tumor')
            about = scan.case.name, patient, tumors[index]
            counts += count_slice(*about, 'network', *self._small([plane.small for plane in planes], hu, labels))
            counts += count_slice(*about, 'native', *self._native([plane.probability for plane in planes], hu, labels))
            all_labels[index] = labels
            for name, plane in zip(self.predictors, planes, strict=True):
                if name in fitted:
                    fitted[name][index] = plane.probability >= self.fitted[name].threshold
                if name in volumes:
                    volumes[name].add(index, plane.probability)
        if volumes:
            self.volumes.append(score_scan(scan, patient, all_labels, self.target, volumes))
        for name, mask in fitted.items():
            drop_small(mask, (self.fitted[name].min_mm3 or 0) / float(np.prod(scan.spacing)))
            for index, with_tumor in tumors.items():
                reference = target_of(all_labels[index], self.target)
                about = scan.case.name, patient, with_tumor
                counts += count_slice(*about, 'native', reference, {name + FITTED: mask[index]})
        return counts

    def _small(self, probabilities: list[np.ndarray], hu: np.ndarray, labels: np.ndarray) -> _Masks:
        """Reference and predictions on the network's grid, as the store has them."""
        settings = self.part.store.manifest['settings']
        low, high = settings['window']
        prepared = prepare_slice(hu, labels, (low, high), settings['image_size'], settings['masks'])
        liver = (prepared['liver'] >= HALF).astype(np.uint8)
        greys = low + prepared['images'].astype(np.float32) / 255 * (high - low)
        reference = prepared_target(prepared['liver'], prepared['tumor'], self.target) >= HALF
        return reference, self._predictions(probabilities, greys, liver)

    def _native(self, probabilities: list[np.ndarray], hu: np.ndarray, labels: np.ndarray) -> _Masks:
        """Reference and predictions on the scan's grid, and what the network's grid allows."""
        settings = self.part.store.manifest['settings']
        ceiling = ceiling_masks(hu, labels, self.target, tuple(settings['window']), settings['image_size'])
        return target_of(labels, self.target), self._predictions(probabilities, hu, labels) | ceiling

    def _predictions(
        self, probabilities: list[np.ndarray], hu: np.ndarray, labels: np.ndarray
    ) -> dict[str, np.ndarray]:
        masks = (probability >= self.threshold for probability in probabilities)
        own = dict(zip(self.predictors, masks, strict=True))
        return own | baseline_masks(hu, labels, self.target, self.hu_below)
