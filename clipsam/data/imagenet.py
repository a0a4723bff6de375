"""ImageNet's class names, as the package timm knows them from WordNet."""

from __future__ import annotations


def imagenet_names() -> tuple[str, ...]:
    """Return the first name of each of ImageNet-1k's classes, by class value; a few are alike."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    described = info.label_descriptions(detailed=False)
    return tuple(description.split(",")[0] for description in described)
