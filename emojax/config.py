"""Every knob of emojax: typed, defaulted and documented with its unit. A recipe (`configs/*.py`) fills in a `Config`.

Zero or an empty value means "off" wherever that makes sense, so that every field keeps one type and every override is
one flag: `--config.optim.learning_rate=1e-3`, `--config.stages[0].epochs=5`.
"""

# No `from __future__ import annotations` here: ml_collections reads the fields' types as classes.
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """Where the images are, and how they become splits."""

    path: str = "emoji"
    """`emoji` (ships with emojax), a folder, a .csv, .parquet or .npz file, a folder of {train,val,test}.{csv,parquet},
    a folder of Hugging Face's `save_to_disk`, a published data set as its authors lay it out, or `tfds:NAME`."""
    format: str = "auto"
    """auto, emoji, folder, csv, parquet, npz, tfds, huggingface, packed (`emojax data pack`), or a published layout:
    affectnet, rafdb, rafdb_compound, fer2013, ferplus, ckplus, fi, emotionroi, emotion6, emoset. `auto` decides by what
    lies at `path`."""
    protocol: str = ""
    """Published protocol, such as affectnet7, rafdb or ferplus_majority (`emojax/data/protocols.py`): its classes and
    vote rules; the run refuses data whose numbers of records are others than published. Empty = none."""
    subset: int = 0
    """1 = with `protocol`, other numbers of records are told and no error."""
    classes: tuple[str, ...] = ()
    """Class names in label order. Empty: taken from the data (folder names sorted, `label_names` of a parquet schema,
    or the sorted distinct labels). For a published layout: which of its classes, in which order."""
    image_column: str = "image"
    """CSV and parquet: column with image bytes or a path relative to the file's folder. npz, TFDS: array or feature."""
    label_column: str = "label"
    """CSV, parquet, npz, TFDS: column with a class name or an integer class id."""
    vote_columns: tuple[str, ...] = ()
    """CSV and parquet: one column per class, in class order, or one list column; votes become the label distribution
    (replaces `label_column`)."""
    vote_rule: str = ""
    """How votes become a label: majority, cross_entropy or multi_target (the modes of FER+, `emojax/data/votes.py`), or
    share; columns such as `unknown` are then no classes. Empty = every column is a class, and every vote counts."""
    vote_rule_eval: str = ""
    """`vote_rule` of val and test; empty = as in train."""
    face: str = "box"
    """affectnet with face boxes: box (cut out), eyes (turned until the eyes are level, then cut out) or whole."""
    slice_columns: tuple[str, ...] = ()
    """CSV and parquet: columns by whose values the report also splits its numbers; absent ones are passed over."""
    split_column: str = "split"
    """CSV and parquet in one file: column with train, val or test; ignored when it does not exist."""
    corrections: str = ""
    """CSV file with the columns id, action (drop, label or split) and value, as `emojax data labels` and `emojax data
    check --write-clean` write them; "" = the data as they are."""
    val_fraction: float = 0.1
    """Share of the training records that becomes `val`, stratified by class, when the data have none. In (0, 1)."""
    test_fraction: float = 0.1
    """Share that becomes `test` when the data have neither `val` nor `test`; 0 = no test split. In [0, 1)."""
    split_seed: int = 0
    """Seed of those cuts; independent of `Config.seed`, so that runs with several seeds share their splits."""
    leak_check: int = 1
    """1 = look for val and test images that are also in an earlier split, mirrored, cropped, encoded again or brighter
    ones included; reports then give their numbers with and without them. 0 = compare bytes only."""
    bad_limit: float = 0.05
    """Largest share of unreadable images that is skipped; above it the run refuses. In [0, 1]."""
    sampler: str = "shuffle"
    """shuffle: every record once per epoch. balanced: drawn with replacement, every class equally likely."""
    folds: int = 0
    """K-fold cross-validation: train and val together are cut into this many stratified parts; 0 = off."""
    fold: int = 0
    """With `folds`: the part, 0 to folds - 1, that is `val`; the others are `train`."""
    group_column: str = ""
    """Column of CSV or parquet: records with the same value (one person, one video) stay in one fold, and in one part
    of a cut. Empty = the layout's own, such as the subject of CK+."""
    workers: int = 0
    """Loader processes; 0 = two threads of the main process. Does not change the batches."""
    worker_start_limit: float = 300.0
    """Seconds within which a loader process must deliver its first batch; later it is replaced. 0 = without limit."""
    worker_limit: float = 120.0
    """Seconds within which it must deliver every further batch that is waited for. 0 = without limit."""
    worker_restarts: int = 3
    """How often in a row a loader process that died or fell silent is replaced at one batch, before the run ends."""
    allow_change: int = 0
    """1 = a resumed run goes on although images or labels are others than those it began with; told and recorded."""


@dataclass(slots=True, kw_only=True)
class AugmentConfig:
    """Random changes of training images. Off unless set."""

    order: tuple[str, ...] = (
        "crop", "pad", "flip", "affine", "jitter", "perspective", "grayscale", "blur", "policy", "erase",
    )  # fmt: skip
    """The steps in the order in which they run; each is still off unless its own knobs are set."""
    crop_area: tuple[float, float] = (1.0, 1.0)
    """Random resized crop: share of the image area kept, [low, high] in (0, 1]."""
    crop_ratio: tuple[float, float] = (0.75, 1.3333)
    """Random resized crop: width / height, log-uniform in [low, high]. Only read when `crop_area` is not (1, 1)."""
    pad: int = 0
    """Pixels of reflected border before a random crop back to size (at `image_size`)."""
    flip: float = 0.0
    """Probability of a left-right mirror image."""
    rotate: float = 0.0
    """Largest rotation, degrees, uniform in [-x, x]; rotation, shift and zoom are one resampling, the step `affine`."""
    translate: float = 0.0
    """Largest shift as a share of the side, uniform in [-x, x] on both axes."""
    zoom: float = 0.0
    """Largest relative change of size, uniform scale in [1 - x, 1 + x]."""
    resample: str = "bilinear"
    """Affine: bilinear or nearest."""
    fill: str = "border"
    """Affine, perspective: what comes in from outside: border (mean colour of the image's frame) or black."""
    perspective: float = 0.0
    """Perspective: each corner moves inwards by up to this share of half a side; bilinear. In [0, 1]."""
    perspective_probability: float = 0.5
    """Perspective: probability."""
    brightness: float = 0.0
    """Colour jitter: factor uniform in [max(0, 1 - x), 1 + x]; the four jitters run in random order."""
    contrast: float = 0.0
    """Colour jitter, as `brightness`."""
    saturation: float = 0.0
    """Colour jitter, as `brightness`."""
    hue: float = 0.0
    """Colour jitter: hue shift uniform in [-x, x] of the full circle; at most 0.5."""
    grayscale: float = 0.0
    """Probability that the colours become luma (ITU-R 601-2)."""
    blur: float = 0.0
    """Probability of a 3 x 3 Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Gaussian blur: standard deviation in pixels, uniform."""
    policy: str = "none"
    """none, randaugment (Cubuk et al. 2019, arXiv:1909.13719), autoaugment (ImageNet's policy, arXiv:1805.09501) or
    trivialaugment (Mueller & Hutter 2021, arXiv:2103.10158)."""
    policy_ops: int = 2
    """RandAugment: operations per image."""
    policy_magnitude: float = 9.0
    """RandAugment: magnitude of every operation, 0 to 30."""
    erase: float = 0.0
    """Probability of random erasing (Zhong et al. 2017, arXiv:1708.04896): one rectangle of other pixels."""
    erase_fill: str = "mean"
    """mean: ImageNet's mean colour. noise: every pixel normal, with ImageNet's mean and deviation."""
    erase_area: tuple[float, float] = (0.02, 0.3333)
    """Random erasing: share of the area, uniform."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Random erasing: height / width of the rectangle, log-uniform."""
    draw_labels: int = 0
    """1 = every time an image is seen, its label is one class drawn from the label's distribution, the "probabilistic
    label drawing" of FER+ (Barsoum et al. 2016, arXiv:1608.01041). Not scaled by a stage's strength."""
    mixup: float = 0.0
    """MixUp (Zhang et al. 2017, arXiv:1710.09412): alpha of Beta(alpha, alpha); 0 = off."""
    mixup_probability: float = 0.5
    """Probability that a batch is mixed by MixUp, when `mixup` is on."""
    cutmix: float = 0.0
    """CutMix (Yun et al. 2019, arXiv:1905.04899): alpha of Beta(alpha, alpha); 0 = off."""
    cutmix_probability: float = 0.5
    """Probability that a batch is mixed by CutMix, when `cutmix` is on. MixUp comes first: where the two sum to more
    than 1, CutMix gets what is left."""
    mix_partner: str = "permutation"
    """Whom an image is mixed with: permutation (a random one of the batch) or roll (its neighbour)."""


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str = "resnet18"
    """Body: resnet18 ... resnet152, resnet20 ... resnet56 (CIFAR's), convnext_atto ... convnext_xlarge,
    mobilenet_inspired, squeezenet_inspired, resnet_inspired, mobilenetv3_small/large, squeezenet1_1,
    efficientnet_b0 ... b3, efficientnet_lite0, vit_small_patch16, vit_base_patch16 (`emojax.models.names()`)."""
    weights: str = ""
    """Pretrained weights to start from: a .safetensors or .npz file with the names of timm, torchvision or emojax, or
    hf:ORG/NAME[/FILE] of the Hugging Face hub; empty = start anew. A resumed run does not need them."""
    weights_sha256: str = ""
    """With `weights`: SHA-256 of the file; another file is refused. Empty = any; the run records which it was."""
    reinit: str = "^head/dense/"
    """With `weights`: regex over parameter paths that start anew; all others must be in the file, in their shape."""
    head_start: str = "random"
    """With `weights`: how the last layer starts. random, or solved: as logistic regression on what the network makes of
    the training images, before the first update (linear probing, then fine-tuning: Kumar et al. 2022,
    arXiv:2202.10054)."""
    mean: tuple[float, ...] = ()
    """Mean colour R, G, B in [0, 1] that is subtracted from images; empty = as `weights` say, or ImageNet's."""
    std: tuple[float, ...] = ()
    """Deviation of R, G, B that images are divided by; empty = as `weights` say, or ImageNet's."""
    padding: str = ""
    """equal: as torch pads. same: EfficientNet and MobileNetV3 pad as TensorFlow does where maps are halved. valid:
    SqueezeNet's pools leave out windows that reach over the edge, as Keras does. Empty = as `weights` say, or equal."""
    norm_epsilon: float = 0.0
    """EfficientNet, MobileNetV3: what batch norms add to the variance; 0 = as `weights` say, or as in torchvision."""
    stem: str = "imagenet"
    """ResNet: `imagenet` (7x7 stride 2, max-pool), `small` (3x3 stride 1), `small2` (3x3 stride 2). ConvNeXt:
    `imagenet` (patch 4) or `small` (patch 2)."""
    depths: tuple[int, ...] = ()
    """Blocks per stage; empty = as published for `name`."""
    widths: tuple[int, ...] = ()
    """Channels per stage; empty = as published for `name`."""
    head: str = "own"
    """own (as published for the body), linear (pool, dense), mlp (norm, dropout, dense, ... of seed 003), deep (seed
    004), emote or emote_lite (seed 000), cosine (30 times the cosine between features and each class's vector)."""
    head_hidden: tuple[int, ...] = ()
    """Heads mlp and deep: widths of the hidden layers; empty = (D / 2,) and (D,), D the body's width."""
    head_attention: str = "none"
    """Head mlp, before pooling: none, tokens (8-head self-attention over the map's pixels), pooled (the same on the one
    pooled vector, which makes it linear: for comparison only) or gate (squeeze and excitation)."""
    dropout: float = 0.0
    """Dropout before the last dense layer; heads with several layers say in `models/heads.py` what they make of it."""
    feature_dropout: float = 0.0
    """Heads emote and emote_lite: dropout of whole channels of the refined map."""
    head_scale: float = 1.0
    """Factor on the starting values of the last dense layer."""
    final_relu: int = 1
    """squeezenet_inspired: 1 = ReLU on the class maps before pooling, so that logits are never negative, as in the
    original; 0 = without."""
    drop_path: float = 0.0
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): rate of the last block, rising linearly from 0."""
    layer_scale: float = 1e-6
    """ConvNeXt: initial value of the per-channel residual scale; 0 = none."""
    compute: str = "float32"
    """float32 or bfloat16: type of activations and matrix products. Parameters, statistics and logits stay float32."""
    products: str = ""
    """Type that the factors of dense layers' and convolutions' products are rounded to; sums and all else stay as they
    are. Empty = `compute`, or bfloat16: with float32 activations the fastest on AMD EPYC with
    AVX512_BF16, no gain on an Intel Xeon without AMX, and what TPUs do with float32 anyway."""
    twins: int = 0
    """1 = two networks side by side, from two starts; a prediction is their mean. For co-teaching, see `loss.forget`;
    without it each learns for itself."""
    importance: int = 0
    """1 = a layer that says how important an image is, for `loss.importance`."""
    remat: str = ""
    """What the backward pass of a block computes again instead of keeping it. products: norms and activation functions,
    two fifths less memory for ConvNeXt; blocks: all but the block's input, least memory and a third more arithmetic."""


@dataclass(slots=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    name: str = "ce"
    """ce: cross-entropy. focal: -sum t (1 - p)^gamma log p. ce_focal: alpha (1 - exp(-CE))^gamma CE. multi_target (of
    FER+): -log max_k t_k p_k with t = 1 for every class of the label, else 0.001. ldam: margins for rare classes (Cao
    et al. 2019, arXiv:1906.07413). Against wrong labels: gce, generalised CE (Zhang & Sabuncu 2018, arXiv:1805.07836);
    sce, symmetric CE (Wang et al. 2019, arXiv:1908.06112); bootstrap_soft and bootstrap_hard (Reed et al. 2014,
    arXiv:1412.6596)."""
    smoothing: float = 0.0
    """Label smoothing, epsilon in [0, 1)."""
    smoothing_style: str = "all"
    """all: (1 - e) t + e / K. others: e / (K - 1) on the wrong classes."""
    smooth_mixed: int = 1
    """1 = smooth every label; 0 = only labels that are one class, not mixtures."""
    mixed: str = "soft"
    """Labels that are mixtures: soft (one loss on the distribution), parts (sum of t_k times the loss against class k)
    or dominant (the heaviest class alone)."""
    gamma: float = 2.0
    """focal, ce_focal: exponent (Lin et al. 2017, arXiv:1708.02002)."""
    alpha: float = 1.0
    """focal, ce_focal: factor. sce: factor of the cross-entropy (the paper's CIFAR-10: 0.1)."""
    focus_weighted: int = 1
    """ce_focal: 1 = the focusing term sees the class-weighted CE, as seed 003 has it; 0 = the plain one."""
    class_weights: str = "none"
    """none, balanced (N / (K n_k)), sqrt (n_k^-1/2, sum K) or effective (Cui et al. 2019, arXiv:1901.05555, sum K)."""
    effective_beta: float = 0.9999
    """class_weights effective: beta."""
    regulariser: str = "none"
    """none, uniform (+ weight x KL(p || uniform): against overconfidence) or entropy (+ weight x H(p): sharpens)."""
    regulariser_weight: float = 0.0
    """Weight of the regulariser."""
    logit_adjust: float = 0.0
    """Logit-adjusted loss (Menon et al. 2020, arXiv:2007.07314): tau; the loss sees logits + tau log(share of the class
    in training). 1 is balanced softmax (Ren et al. 2020, arXiv:2007.10740); 0 = off."""
    margin: float = 0.5
    """ldam: margin of the rarest class, in logits; others have less, by n_k^-1/4. In the paper logits are 30 times a
    cosine (`model.head` cosine) and this is 15."""
    q: float = 0.7
    """gce: between cross-entropy (towards 0) and mean absolute error (1)."""
    reverse: float = 1.0
    """sce: factor of the reverse cross-entropy."""
    log_zero: float = -4.0
    """sce: what stands for log 0 in it."""
    trust: float = 0.8
    """bootstrap_soft, bootstrap_hard: share of the label in the target; the rest is the model's own opinion."""
    elr: float = 0.0
    """Early-learning regularisation (Liu et al. 2020, arXiv:2007.00151): weight; 0 = off. Keeps a target per training
    image in the state. Not with MixUp or CutMix: a mixture has no target of its own."""
    elr_momentum: float = 0.7
    """elr: share of the old target, when an image is seen again."""
    forget: float = 0.0
    """Small-loss selection (Han et al. 2018, arXiv:1804.06872): share of every batch, that with the largest losses,
    which is not learned from. With `model.twins` = 1 each network chooses for the other: co-teaching. 0 = off."""
    forget_epochs: float = 10.0
    """forget: epochs over which the share rises from 0, from the start of the run or the last stage with `restart`."""
    importance: float = 0.0
    """SCN (Wang et al. 2020, arXiv:2002.10392): weight of the rank regularisation, gamma; the loss, on logits times the
    importance of the image, weighs 1 - gamma (paper: 0.5). Needs `model.importance` = 1; 0 = off."""
    importance_share: float = 0.7
    """importance: share of a batch that counts as important."""
    importance_margin: float = 0.15
    """importance: by how much the mean importance of the two groups shall differ."""
    relabel: float = 0.0
    """importance: an unimportant image whose likeliest class leads its label's by more than this probability gets that
    class as label (paper: 0.2, from the tenth epoch on, as a stage's loss). 0 = off."""
    flip_consistency: float = 0.0
    """Weight of the Jensen-Shannon divergence between the predictions for the image and its mirror image, as a simple
    form of EAC (Zhang et al. 2022, arXiv:2207.10299). Doubles the work; 0 = off."""


@dataclass(slots=True, kw_only=True)
class DistillConfig:
    """Self-distillation (Hinton et al. 2015, arXiv:1503.02531), in stages with `distill` = 1: alpha T^2 KL(teacher ||
    student) + (1 - alpha) times the loss on the label; a regulariser keeps its weight. The teacher is a copy made where
    distillation starts and at every restart."""

    alpha: float = 0.4
    """Weight of the teacher, (0, 1]."""
    temperature: float = 2.5
    """T."""
    attention: float = 0.0
    """Weight of attention transfer (Zagoruyko & Komodakis 2016, arXiv:1612.03928) over the model's taps; 0 = off."""
    teacher: str = "ema"
    """What is copied: ema (the running average) or best (the best checkpoint so far)."""


@dataclass(slots=True, kw_only=True)
class ScheduleConfig:
    """Learning rate as a function of the step."""

    name: str = "cosine"
    """After the warm-up: cosine, constant, restarts (cosine cycles that grow), cycles (equal cosine cycles), onecycle,
    step or plateau."""
    epochs: float = 0.0
    """Length, epochs; 0 = as long as the stages that use it. After it, the rate stays where it ended."""
    warmup_epochs: float = 0.0
    """Linear warm-up to the peak, epochs. Not for onecycle, which has its own."""
    warmup_start: float = 0.0
    """First learning rate of the warm-up as a share of the peak."""
    final: float = 0.0
    """cosine, restarts, cycles, plateau: lowest learning rate as a share of the peak."""
    first_epochs: float = 10.0
    """restarts: length of the first cycle, epochs."""
    multiply: float = 2.0
    """restarts: each cycle is this many times as long as the one before."""
    cycles: int = 6
    """cycles: how many."""
    rise: float = 0.3
    """onecycle: share of the run in which the rate rises."""
    div: float = 25.0
    """onecycle: the first rate is peak / div."""
    final_div: float = 1e4
    """onecycle: the last rate is peak / div / final_div."""
    every_epochs: float = 30.0
    """step: epochs between drops."""
    factor: float = 0.1
    """step, plateau: factor of a drop."""
    patience: int = 10
    """plateau: evaluations without improvement of `metric` that are waited for before a drop."""
    metric: str = "loss"
    """plateau: number of the val report."""


@dataclass(slots=True, kw_only=True)
class OptimConfig:
    """How parameters are updated."""

    name: str = "adamw"
    """adamw (Loshchilov & Hutter 2017, arXiv:1711.05101), adam, sgd (Nesterov momentum), lamb (arXiv:1904.00962), lion
    (arXiv:2302.06675) or muon (Jordan 2024; AdamW for everything that is no matrix)."""
    learning_rate: float = 1e-3
    """Peak learning rate for the configured global batch; nothing rescales it."""
    weight_decay: float = 0.05
    """Decoupled decay, times the learning rate. adam, sgd: added to the gradient (L2)."""
    no_decay: str = r"(bias|scale|gamma|cls|position)$"
    """Regex over parameter paths that take no weight decay."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    momentum: float = 0.9
    """sgd, muon: Nesterov momentum."""
    clip_norm: float = 0.0
    """Largest global L2 norm of the gradient of the trained parameters; 0 = no clipping."""
    head_multiplier: float = 1.0
    """Factor on the learning rate of the head."""
    lookahead: int = 0
    """Lookahead (Zhang et al. 2019, arXiv:1907.08610): updates between steps of the slow weights; 0 = off."""
    lookahead_alpha: float = 0.5
    """Lookahead: step size of the slow weights."""
    sam: float = 0.0
    """Sharpness-aware minimisation (Foret et al. 2020, arXiv:2010.01412): radius rho; 0 = off. Doubles the work. Twins
    share one radius, as one network would."""
    layer_decay: float = 1.0
    """Layer-wise rate decay (Clark et al. 2020, arXiv:2003.10555): a block d blocks (ConvNeXt: groups of three) below
    the head learns with layer_decay ** d of the rate; 1 = off."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update (optax.MultiSteps)."""
    skip_limit: int = 10
    """An update whose loss or gradient is not finite is left out. After so many in a row the run goes back to its
    newest checkpoint, once, with a tenth of the learning rate, and the next time it ends. 0 = never."""


@dataclass(slots=True, kw_only=True)
class AverageConfig:
    """Averages of the weights along the run."""

    name: str = "none"
    """none, ema (a running average: it is what is evaluated), swa (the mean of snapshots: one more candidate at the end
    of the run; Izmailov et al. 2018, arXiv:1803.05407) or ema+swa."""
    decay: float = 0.999
    """EMA decay per update."""
    warmup: int = 1
    """EMA: 1 = the decay starts as (1 + step) / (10 + step); 0 = constant from the start."""
    swa_start: float = 0.0
    """SWA: epochs before the first snapshot."""
    swa_every: float = 1.0
    """SWA: epochs between snapshots."""
    swa_first: int = 0
    """SWA: 1 = the weights at `swa_start` are a snapshot too."""
    refresh_batches: int = 50
    """Batches by which BatchNorm statistics are estimated anew for averaged weights (SWA, soup)."""
    soup: int = 0
    """Model soup (Wortsman et al. 2022, arXiv:2203.05482): the mean of this many best checkpoints is one more candidate
    at the end of the run; 0 = off, else at most `checkpoint.keep_best`."""


@dataclass(slots=True, kw_only=True)
class StageConfig:
    """One stretch of the run. A run is a list of them; most have one."""

    name: str = ""
    """What the table of stages calls it."""
    epochs: float = 30.0
    """Length in passes over the training split; may be fractional."""
    image_size: int = 0
    """Side of the square training and evaluation images, pixels; 0 = `Config.image_size`."""
    strength: float = 1.0
    """Factor on augmentation probabilities and magnitudes (not of flips), >= 0; 0 = no augmentation."""
    mixup: float = 1.0
    """Factor on `mixup_probability`, >= 0; 0 = no MixUp in this stage."""
    cutmix: float = 1.0
    """Factor on `cutmix_probability`, >= 0; 0 = no CutMix in this stage."""
    frozen: str = ""
    """Regex over parameter paths that do not learn in this stage; empty = all learn. BatchNorm there keeps its
    statistics, and normalises with them in training too."""
    frozen_statistics: str = ""
    """Regex over BatchNorm statistics (their paths end in /mean) for which that holds too, though the layers learn: "."
    keeps all that came with the weights, which few images with heavy augmentation would spoil. A norm that starts anew
    stays at mean 0 and variance 1 then."""
    learning_rate: float = 0.0
    """Peak learning rate of the stage's own schedule; 0 = `optim.learning_rate`."""
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(name=""))
    """A schedule of the stage's own; name "" = go on with the run's schedule."""
    sampler: str = ""
    """A sampler of the stage's own, see `data.sampler`; empty = that of the run."""
    restart: str = ""
    """Regex over parameter paths that start the stage with new random values, ELR's memory from 0. With `frozen` of all
    others and a balanced sampler: classifier re-training (Kang et al. 2019, arXiv:1910.09217); where val is skewed, let
    `eval.metric` be balanced_accuracy, or a checkpoint of before may stay the best. "." with `distill` from best:
    born-again networks (Furlanello et al. 2018, arXiv:1805.04770)."""
    loss: LossConfig = field(default_factory=lambda: LossConfig(name=""))
    """A loss of the stage's own; name "" = the run's loss."""
    distill: int = 0
    """1 = learn from the teacher too, see `DistillConfig`."""
    fresh: int = 0
    """1 = start with a fresh optimizer state."""
    start_from: str = ""
    """best = start from the weights of the best checkpoint so far; empty = go on."""
    train: int = 1
    """0 = only evaluate: the epochs pass without an update."""
    judge: str = ""
    """Weights that are evaluated in this stage: weights, ema or swa; empty = ema when there is one, else weights."""
    views: str = ""
    """Test-time views in this stage; empty = `eval.views`."""
    patience: int = 0
    """Evaluations without improvement of `eval.metric` before the stage ends early and the next begins; 0 = never."""


@dataclass(slots=True, kw_only=True)
class EvalConfig:
    """When and how a model is judged."""

    every_epochs: float = 1.0
    """Epochs between evaluations on `val`; the end of every stage is always evaluated."""
    batch_size: int = 0
    """Images per evaluation batch over all devices; 0 = the training batch size."""
    metric: str = "accuracy"
    """Number of the report by which the best checkpoint and early stopping are decided."""
    min_delta: float = 0.0
    """Least gain of `metric` that counts as an improvement for `patience`."""
    patience: int = 0
    """Evaluations without improvement of `metric` before the run stops early; 0 = never."""
    crop: float = 1.0
    """Side of the central crop as a share of the resized image: 0.875 resizes 224 px models' images to 256 first."""
    interpolation: str = ""
    """How evaluation resizes pictures: bicubic or bilinear, both antialiased; empty = as `model.weights` say, or
    bicubic."""
    views: str = "center"
    """Test-time views that are averaged: center, center_crop, flip (2), six, eight, ten or sixteen; see
    `emojax/views.py`."""
    view_average: str = "probs"
    """What is averaged over the views: probs or logits."""
    test: int = 1
    """1 = the end of the run judges its result on test, for the only time; 0 = it leaves test alone."""


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """What is kept on disk. Best and last are always kept; a checkpoint is written at every evaluation."""

    every_epochs: float = 0.0
    """Extra checkpoints between evaluations, epochs; 0 = none."""
    keep_last: int = 2
    """How many of the latest checkpoints stay, besides the best."""
    keep_best: int = 1
    """How many of the best checkpoints stay."""


@dataclass(slots=True, kw_only=True)
class ParallelConfig:
    """How a run is spread over devices and processes. Changes numbers by rounding only, so a resumed run may differ."""

    distributed: int = 0
    """1 = join the other processes of the job: those that `emojax launch` started, or those of SLURM, Open MPI, GKE or
    a TPU pod, whose addresses JAX finds by itself."""
    heartbeat: int = 30
    """Seconds of silence of a process after which the others end."""
    fsdp: int = 1
    """Devices over which large parameters, their moments and averages are cut (Zhao et al. 2023, arXiv:2304.11277); the
    batch is cut over all devices anyway. 1 = a copy on every device."""
    fsdp_min: int = 65536
    """Parameters with fewer numbers stay whole."""
    fsdp_whole: str = ""
    """Regex over paths of what stays whole, whatever its size."""


@dataclass(slots=True, kw_only=True)
class MonitorConfig:
    """What is shown and recorded. Nothing here changes the training."""

    log_every: int = 20
    """Steps between lines of metrics.jsonl and TensorBoard points; an evaluation or checkpoint also closes a line."""
    tensorboard: int = 1
    """1 = write TensorBoard event files to WORKDIR/tensorboard."""
    mlflow: str = ""
    """Experiment of MLflow in which the run is recorded, in the store of the environment variable MLFLOW_TRACKING_URI,
    else in mlflow.db beside the work directory; "" = none. Needs the extra `mlflow`."""
    wandb: str = ""
    """Project of Weights & Biases in which the run is recorded, offline in WORKDIR/wandb unless the environment
    variable WANDB_MODE says otherwise; "" = none. Needs the extra `wandb`."""
    profile_step: int = 0
    """Step from which a profile of ten steps is written to WORKDIR/profile; 0 = none."""
    pictures: int = 1
    """1 = report.html holds small pictures of val and test; 0 = none, for pictures that must not be passed on."""


@dataclass(slots=True, kw_only=True)
class Config:
    """A whole run: data in, report out."""

    seed: int = 0
    """Seed of initialisation, data order, augmentation and dropout."""
    image_size: int = 224
    """Side of the square input images, pixels."""
    fit: str = "crop"
    """How a picture becomes square: crop (its central square) or squash (all of it, with other proportions)."""
    batch_size: int = 64
    """Images per step over all devices, before accumulation."""
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


MAY_CHANGE = (
    "data.workers", "data.worker_", "data.bad_limit", "data.allow_change", "monitor.", "checkpoint.", "parallel.",
)  # fmt: skip
"""Knobs that a resumed run may have changed: they alter neither the weights nor the numbers beyond their last bits, or
say what the run shall put up with."""


def items(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (`optim.learning_rate`, value) for every leaf knob, in the order of definition."""
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), prefix + f.name
        if dataclasses.is_dataclass(value):
            yield from items(value, name + ".")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for i, part in enumerate(value):
                yield from items(part, f"{name}[{i}].")
        else:
            yield name, value
