"""Every field with its default; the other files here start from this one and change a few lines.

    liver-jax compare --config=configs/default.py --config.data.raw=PATH --workdir=runs/default

Any field can be set on the command line: `--config.optim.learning_rate=3e-4`. Choices are checked by
`liver_jax/config.py`, which names the field and the nearest known name when something is off. The augmentation is a
preset of `configs/augmentation.py`, named after a colon: `--config=configs/default.py:nnunet`.
"""

from ml_collections import ConfigDict

from configs import augmentation


def get_config(augment: str = 'light') -> ConfigDict:
    """The default experiment: tumour, split by patient, 128x128, Adam and binary cross-entropy."""
    config = ConfigDict()
    config.seed = 0  # of the initial parameters, the order of slices and the augmentation; both networks share it

    config.data = _data()

    config.split = split = ConfigDict()
    split.by = 'patient'  # 'patient', or 'slice': the original study's protocol, which leaks (see README)
    split.fractions = (0.7, 0.15, 0.15)  # of patients (or slices) in train, val, test; at least one in each
    split.folds = 0  # 0: cut once by the fractions; k: cross-validation with k equal parts
    split.fold = 0  # with folds: which part is the test set; the next one validates, the others train
    split.stratify = True  # give every part its share of patients with little and with much tumour
    split.seed = 0  # of the shuffle before the cut

    config.augment = augmentation.preset(augment)

    config.model = model = ConfigDict()
    model.name = 'unet'  # 'unet' or 'resunet'; `compare` trains both and ignores this
    model.width = 32  # channels of the first level; each level down has twice as many
    model.depth = 4  # times the image is halved
    model.norm = 'batch'  # 'batch', 'group' (groups of 8 channels) or 'instance'
    model.upsample = 'transpose'  # 'transpose' (2x2 transposed convolution) or 'bilinear' (then a 1x1 convolution)
    model.dtype = 'float32'  # of activations: 'float32' or 'bfloat16'; parameters, statistics, logits, loss: float32
    model.remat = False  # compute activations anew in the backward pass: less memory, more time, the same numbers
    model.prior = 0.02  # expected part of foreground pixels: the initial output, so that BCE starts on a rare class

    config.loss = _loss()

    config.optim = _optim()

    config.train = train = ConfigDict()
    train.batch_size = 16  # slices per step over all devices; must be divisible by their number
    train.accumulate = 1  # parts in which a batch is computed, one after the other, for want of memory
    train.epochs = 60  # at most; early stopping may end sooner
    train.log_every_steps = 10  # steps between lines of metrics.jsonl and TensorBoard
    train.save_every_steps = 1000  # steps between checkpoints within an epoch, beside those at its end; 0: none
    train.max_hours = 0.0  # after so long a run is evaluated and saved; the next call goes on; 0: no limit
    train.monitor = 'dice_image'  # validation score that picks the best checkpoint and stops early; or 'loss'
    train.patience = 15  # epochs without improvement before stopping
    train.min_delta = 1e-3  # smallest change of the monitored metric that counts as improvement
    train.deterministic = False  # the same bits in every run on the same hardware; costs speed on GPUs (see README)

    config.eval = evaluation = ConfigDict()
    evaluation.batch_size = 32  # slices per step over all devices
    evaluation.threshold = 0.5  # probability from which a pixel is foreground

    config.compare = comparison = ConfigDict()  # of `compare` alone
    comparison.seeds = 1  # pairs of networks to train, with the seeds seed, seed + 1, …; the split stays
    comparison.folds = 0  # k: cross-validation, a pair for each of k folds (times seeds); 0: the one split of `split`

    return config.lock()


def _data() -> ConfigDict:
    """The volumes and what is made of them."""
    data = ConfigDict()
    data.raw = ''  # folder of CT scans as downloaded; its layout is recognised (see README)
    data.images = ''  # for a layout of your own: pattern of the images below data.raw, such as 'ct/*.nii.gz'
    data.labels = ''  # and of their labels, such as 'masks/*_seg.nii.gz'; joined on what the stars stand for
    data.store = 'stores/lits'  # folder of prepared slices; made by `prepare`, or by `compare` when missing
    data.patients = ''  # a CSV with case,patient; or 'signature', 'volume', or '' for the best that is at hand:
    # RAW/patients.csv, else DICOM headers, else 'signature', which takes cases of like anatomy for one patient's;
    # 'volume' takes every case for a patient of its own
    data.image_size = 128  # side of a prepared slice in pixels; must be divisible by 2^model.depth
    data.window = (-160.0, 240.0)  # HU; clipped to it, then scaled to [0, 1]
    data.slices = 'tumor'  # which slices to keep: 'tumor' (with tumour), 'liver' (with liver or tumour), 'all'
    data.masks = 'soft'  # resizing of masks: 'soft' (area-averaged, in [0, 1]) or 'nearest' (in {0, 1})
    data.target = 'tumor'  # what is segmented: 'tumor' (label 2), 'liver' (label 1), 'liver_or_tumor' (label 1 or 2)
    data.workers = 2  # processes that prepare volumes, one volume at a time each
    data.memory_gb = 2.0  # for all of them together; a volume that needs more is refused
    data.case_seconds = 600.0  # time limit for one volume
    data.placement = 'auto'  # where the training slices lie: 'host', 'device', or 'auto' (device, if they fit easily)
    return data


def _loss() -> ConfigDict:
    """What is minimised: computed per image, then averaged over the images of a batch."""
    loss = ConfigDict()
    loss.name = 'bce'  # 'bce', 'dice' (soft, with squares), 'dice_bce' (their sum), 'focal' or 'tversky'
    loss.focal_alpha = 0.25  # of 'focal': weight of foreground; background has 1 - alpha (Lin et al., 2017)
    loss.focal_gamma = 2.0  # of 'focal': how little a pixel counts that is right already
    loss.tversky_alpha = 0.3  # of 'tversky': weight of false positives (Salehi et al., 2017)
    loss.tversky_beta = 0.7  # of 'tversky': weight of false negatives
    return loss


def _optim() -> ConfigDict:
    """How it is minimised."""
    optim = ConfigDict()
    optim.name = 'adam'  # 'adam', 'adamw' (decoupled weight decay) or 'sgd' (Nesterov's momentum)
    optim.learning_rate = 1e-3  # the peak
    optim.warmup_epochs = 1.0  # linear rise from zero
    optim.schedule = 'cosine'  # after warm-up: 'constant', or 'cosine' or 'polynomial' down to zero at train.epochs
    optim.power = 0.9  # of 'polynomial': the part of training that is left, to this power
    optim.b1 = 0.9  # of 'adam', 'adamw': decay of the gradient's running mean
    optim.b2 = 0.999  # of 'adam', 'adamw': decay of its running mean square
    optim.momentum = 0.9  # of 'sgd'
    optim.weight_decay = 0.0  # of 'adamw', such as 0.01, and 'sgd'; norms and biases do not decay
    optim.clip_norm = 0.0  # global norm that the gradient of a step is cut to; 0: as it is
    optim.ema_decay = 0.0  # of the moving average of the weights, such as 0.999, which is then what is scored; 0: none
    return optim
