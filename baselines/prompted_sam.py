"""What pipelines have in common that tell an unchanged SAM where to look."""

from __future__ import annotations

from torch import Tensor, nn

from clipsam.measure import Stopwatch
from clipsam.predictor import Predictor
from clipsam.scene import Scene
from clipsam.types import ConceptResult, PromptsUsed


class SamPrompter(Predictor):
    """The SAM is the preset's; a pipeline says by what it is told."""

    def network(self) -> nn.Module:
        """SAM; nothing of it is trained here."""
        return self._sam

    @property
    def _sam(self) -> nn.Module:
        """The SAM that is told."""
        return self.backbones.sam

    def _embed(self, scene: Scene) -> object:
        """The image as SAM's decoder takes it, made once per scene."""
        return scene.sam_embedding(self.backbones)

    def _segment(
        self,
        scene: Scene,
        prompts: PromptsUsed,
        watch: Stopwatch,
        dense: Tensor | None = None,
        **result: object,
    ) -> ConceptResult:
        """SAM's answer for one class.

        Args:
            scene: remembers SAM's image embedding.
            prompts: points and boxes in pixels of the original image.
            watch: takes the time.
            dense: (1, 1, 4h, 4w) mask logits.
            result: further fields of the :class:`ConceptResult`.
        """
        with watch.step("SAM encoder"):
            embedding = self._embed(scene)
        with watch.step("SAM decoder"):
            return self._decode(self._sam, embedding, scene, prompts, dense, **result)
