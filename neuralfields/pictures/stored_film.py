"""Pictures of one size as the bytes of a film (H.264), for models that keep photos: few bytes beside the pixels'."""

import io
from pathlib import Path

import numpy as np

from neuralfields.errors import InputError
from neuralfields.media import import_av

CRF = "14"  # x264's quality: 44 to 50 dB
CONTAINER, PIXELS = "matroska", "yuv444p"  # colours at full resolution


def film_bytes(pictures: np.ndarray) -> bytes:
    """Codes uint8 [N, H, W, 3] as a film, best where each picture resembles the one before; one thread, same bytes.

    Raises UsageError where av is missing.
    """
    av, out = import_av(Path("a film")), io.BytesIO()
    with av.open(out, mode="w", format=CONTAINER) as film:
        stream = film.add_stream("libx264", rate=25, options={"crf": CRF, "threads": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], PIXELS
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            film.mux(stream.encode(frame.reformat(format=PIXELS)))
        film.mux(stream.encode(None))
    return out.getvalue()


def pictures_of(coded: bytes, shape: tuple[int, int, int], where: str) -> np.ndarray:
    """Decodes a film of `shape` (N, H, W) to uint8 [N, H, W, 3]; `where` names it in messages.

    Raises InputError where it is damaged or holds other pictures, UsageError where av is missing.
    """
    av, found = import_av(Path(where)), []
    wrong = InputError(f"{where}: the film of its photos is damaged or of another size; restore a backup")
    try:
        with av.open(io.BytesIO(coded), options={"format_whitelist": "matroska,webm"}) as film:
            stream = film.streams.video[0]
            if (stream.height, stream.width) != shape[1:]:
                raise wrong
            for frame in film.decode(stream):
                if len(found) == shape[0] or (frame.height, frame.width) != shape[1:]:
                    raise wrong
                found.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError, ValueError):
        raise wrong from None
    if len(found) != shape[0]:
        raise wrong
    return np.stack(found)
