"""Other words for the classes of a data set, asked together with the class's name.

CLIP-Guided SAM's authors train and test on PASCAL VOC with a list of synonyms for each class, whose
features are averaged. Their lists were not at hand: these were written here, by the dictionary
meaning of VOC's names, and figures measured with them need not be the paper's.
"""

from __future__ import annotations

from ..names import fold_name

# fmt: off
VOC_SYNONYMS: dict[str, tuple[str, ...]] = {
    "aeroplane": ("airplane", "aircraft", "plane"),
    "bicycle": ("bike", "cycle"),
    "bird": ("birds",),
    "boat": ("ship", "vessel"),
    "bottle": ("flask",),
    "bus": ("coach", "autobus"),
    "car": ("automobile", "motor car"),
    "cat": ("house cat", "kitten"),
    "chair": ("seat", "armchair"),
    "cow": ("cattle", "bull", "calf"),
    "dining table": ("table", "dinner table"),
    "dog": ("hound", "puppy"),
    "horse": ("pony", "foal"),
    "motorbike": ("motorcycle", "scooter"),
    "person": ("people", "human", "man", "woman", "child"),
    "potted plant": ("houseplant", "plant in a pot"),
    "sheep": ("lamb", "ewe"),
    "sofa": ("couch", "settee"),
    "train": ("locomotive", "railway carriage"),
    "tv monitor": ("television", "screen", "monitor"),
}
# fmt: on
"""By the names of :data:`clipsam.data.readers.voc.VOC_NAMES`."""


def with_synonyms(name: str) -> tuple[str, ...]:
    """Return a class's name, followed by its synonyms if it is one of VOC's."""
    return name, *VOC_SYNONYMS.get(fold_name(name), ())
