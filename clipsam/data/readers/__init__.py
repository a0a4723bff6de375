"""Data sets on disk, read image by image."""

from __future__ import annotations

from .ade20k import Ade20kData
from .camouflage import CamouflageData
from .coco import CocoInstancesData, CocoPanopticData, CocoStuffData, plain_coco_name
from .combine import CachedData, ConcatData, SubsetData, shrink
from .common import DataError, connected_segments
from .folder import FolderData
from .named import NamedData
from .registry import open_data
from .voc import PascalContextData, VocData
from .vocabulary_sets import OpenVocabularyData, class_list

__all__ = [
    "Ade20kData",
    "CachedData",
    "CamouflageData",
    "CocoInstancesData",
    "CocoPanopticData",
    "CocoStuffData",
    "ConcatData",
    "DataError",
    "FolderData",
    "NamedData",
    "OpenVocabularyData",
    "PascalContextData",
    "SubsetData",
    "VocData",
    "class_list",
    "connected_segments",
    "open_data",
    "plain_coco_name",
    "shrink",
]
