"""Label schemas: the classes of the published data sets by name and order, and what their names mean across sets.

Every data set numbers its classes in its own way, so numbers are turned into names while a data set is read, and from
there on names alone decide: `find` knows the spellings of a class, `LEVELS` its place in coarser schemas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """The classes of a data set as published.

    Attributes:
      title: of the data set.
      names: K class names in label order, as its paper or files call them, in lower case.
      codes: what its files write for each of them.
      no_class: code or column name -> what it stands for: records that belong to no class.
    """

    title: str
    names: tuple[str, ...]
    codes: tuple[str, ...] = ()
    no_class: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def name_of(self) -> dict[str, str]:
        """{what the files write: class name}; without codes the names themselves."""
        return dict(zip(self.codes or self.names, self.names, strict=True))


def _numbered(title: str, names: str, first: int = 0, **more: Mapping[str, str]) -> Schema:
    found = tuple(names.split(", "))
    return Schema(title, found, tuple(str(first + i) for i in range(len(found))), **more)


SCHEMAS: dict[str, Schema] = {
    # Mollahosseini et al. 2017, arXiv:1708.03985
    "affectnet": _numbered(
        "AffectNet",
        "neutral, happiness, sadness, surprise, fear, disgust, anger, contempt",
        no_class={"8": "none", "9": "uncertain", "10": "non-face"},
    ),
    # Li et al. 2017, Reliable crowdsourcing and deep locality-preserving learning, CVPR
    "rafdb": _numbered("RAF-DB basic", "surprise, fear, disgust, happiness, sadness, anger, neutral", first=1),
    "rafdb_compound": _numbered(
        "RAF-DB compound",
        "happily surprised, happily disgusted, sadly fearful, sadly angry, sadly surprised, sadly disgusted, "
        "fearfully angry, fearfully surprised, angrily surprised, angrily disgusted, disgustedly surprised",
        first=1,
    ),
    # Goodfellow et al. 2013, arXiv:1307.0414
    "fer2013": _numbered("FER2013", "angry, disgust, fear, happy, sad, surprise, neutral"),
    # Barsoum et al. 2016, arXiv:1608.01041
    "ferplus": Schema(
        "FER+",
        ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
        no_class={"unknown": "unknown", "NF": "not a face"},
    ),
    # Lucey et al. 2010, The extended Cohn-Kanade dataset (CK+), CVPR workshops
    "ckplus": _numbered("CK+", "neutral, anger, contempt, disgust, fear, happy, sadness, surprise"),
    # You et al. 2016, arXiv:1605.02677
    "fi": Schema("FI", ("amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness")),
    # Peng et al. 2016, Where do emotions come from?, ICIP
    "emotionroi": Schema("EmotionROI", ("anger", "disgust", "fear", "joy", "sadness", "surprise")),
    # Peng et al. 2015, A mixed bag of emotions, CVPR
    "emotion6": Schema("Emotion6", ("anger", "disgust", "fear", "joy", "sadness", "surprise", "neutral")),
    # Yang et al. 2023, arXiv:2307.07961
    "emoset": _numbered("EmoSet", "amusement, awe, contentment, excitement, anger, disgust, fear, sadness"),
    # Order of the logits of Savchenko's EmotiEffLib models
    "emotiefflib": _numbered("EmotiEffLib", "anger, contempt, disgust, fear, happiness, neutral, sadness, surprise"),
}
"""name -> schema; the keys of published layouts are the values of `config.data.format`."""

_SPELLINGS = {
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful, afraid, scared",
    "happiness": "happy, joy, joyful",
    "sadness": "sad",
    "surprise": "surprised",
    "neutral": "",
    "contempt": "contemptuous",
    "amusement": "amused",
    "awe": "",
    "contentment": "content, contented",
    "excitement": "excited, exciting",
    "positive": "pos",
    "negative": "neg",
}
_CANONICAL = {
    spelling: name for name, others in _SPELLINGS.items() for spelling in (name, *filter(None, others.split(", ")))
}

_NO_CLASS = ("unknown", "nf", "not a face", "non face", "none", "uncertain")

_EKMAN = {name: name for name in ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")} | {
    # Mikels' positive emotions are facets of happiness in Ekman's list; awe is not (it mixes with fear and surprise).
    "amusement": "happiness",
    "contentment": "happiness",
    "excitement": "happiness",
}
_MIKELS = {
    name: name for name in ("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness")
}
_POLARITY = {
    # EmoSet's halves (arXiv:2307.07961); surprise has no polarity of its own.
    **dict.fromkeys(("amusement", "awe", "contentment", "excitement", "happiness", "positive"), "positive"),
    **dict.fromkeys(("anger", "disgust", "fear", "sadness", "contempt", "negative"), "negative"),
    "neutral": "neutral",
}
LEVELS: dict[str, Mapping[str, str]] = {
    "ekman": _EKMAN,
    "mikels": _MIKELS,
    "polarity": _POLARITY,
}
"""level -> {class: its class there}: Ekman's six and neutral (Ekman 1992, doi:10.1080/02699939208411068), Mikels' eight
(Mikels et al. 2005, doi:10.3758/BF03192732), or positive and negative. A class without an entry has no place there."""


def canonical(name: str) -> str:
    """One spelling for each class: `Happy`, `happiness` and `joy` are `happiness`; an unknown name in lower case."""
    text = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    return _CANONICAL.get(text, text)


def is_no_class(name: str) -> bool:
    """Whether a column of votes is for "no emotion of the list": unknown, not a face and their like."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split()) in _NO_CLASS


def numbers_only(names: Sequence[str]) -> bool:
    """Whether classes are called by bare numbers, whose meaning differs from data set to data set."""
    return bool(names) and all(name.strip().isdigit() for name in names)


def at_level(name: str, level: str) -> str | None:
    """The class of `name` at a level of `LEVELS`, or None; at the level "name" every class stays itself."""
    own = canonical(name)
    return own if level == "name" else LEVELS[level].get(own)


def find(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that is `name`: the same text, else the one spelling of the same class; None when there is
    none, or when several are spellings of it."""
    if name in names:
        return name
    found = [other for other in names if canonical(other) == canonical(name)]
    return found[0] if len(found) == 1 else None


def identify(names: Sequence[str]) -> str:
    """The title of the schema whose names and order these are (whatever the spelling), or ""."""
    own = [canonical(name) for name in names]
    return next((s.title for s in SCHEMAS.values() if [canonical(name) for name in s.names] == own), "")
