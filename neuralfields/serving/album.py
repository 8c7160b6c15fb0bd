"""Photos of a capture as the viewer shows them: small, decoded on demand, by the index of the stage's cameras."""

from collections import OrderedDict
from collections.abc import Sequence

from neuralfields.captures.images import downscale, read_image
from neuralfields.errors import InputError
from neuralfields.scene import Scene
from neuralfields.serving.shading import Reference

PHOTO_SIDE = 1024
ALBUM_KEEPS = 12


class Album:
    """Photos of a capture, decoded on demand; the last few are cached."""

    def __init__(self, scene: Scene, names: Sequence[str]) -> None:
        frames = {frame.name: frame for frame in scene.frames}
        self.frames = [frames.get(name) for name in names]
        self._kept: OrderedDict[int, Reference] = OrderedDict()

    def has(self, index: int) -> bool:
        """Whether that camera has a photo."""
        return 0 <= index < len(self.frames) and self.frames[index] is not None

    def focal(self, index: int) -> float:
        """Focal length in pixels of `photo(index)`, without decoding it."""
        camera = self.frames[index].camera
        return camera.fy * min(1.0, PHOTO_SIDE / max(camera.width, camera.height))

    def photo(self, index: int) -> Reference:
        """The photo at most 1024 pixels a side, with its camera at that size. Raises InputError."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        if not self.has(index):
            raise InputError(f"camera {index}: has no photo here")
        frame = self.frames[index]
        size = (frame.camera.width, frame.camera.height)
        image = read_image(frame.path, size, at_least=min(PHOTO_SIDE, *size))
        scale = min(1.0, PHOTO_SIDE / max(image.shape[:2]))
        image = downscale(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))))
        kept = self._kept[index] = Reference(image, frame.camera.resized(image.shape[1], image.shape[0]))
        while len(self._kept) > ALBUM_KEEPS:
            self._kept.popitem(last=False)
        return kept
