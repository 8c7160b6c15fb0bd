"""Small sound meshes, pictures, sounds and films, whose changed copies are fed to their readers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from neuralfields.signals.sound import wav
from tests.support import make_media

CUBE = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
QUADS = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]


def obj(folder: Path) -> None:
    lines = ["# a cube", *(f"v {x} {y} {z} 0.5 0.5 0.5" for x, y, z in CUBE), "vt 0 0", "vn 0 0 1", "g a"]
    lines += ["f " + " ".join(f"{i + 1}/1/1" for i in quad) for quad in QUADS]
    (folder / "a.obj").write_text("\n".join([*lines, "f 1 2 \\", " 3", "f -1 -2 -3", ""]))


def ply(kind: str) -> Callable[[Path], object]:
    """A cube as PLY, in text or in one of the byte orders."""

    def make(folder: Path) -> None:
        head = f"ply\nformat {kind} 1.0\ncomment a\nelement vertex 8\nproperty float x\nproperty float y\n"
        head += "property float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        head += "element face 6\nproperty list uchar int vertex_indices\nend_header\n"
        order = ">" if "big" in kind else "<"
        if kind == "ascii":
            rows = [f"{x} {y} {z} 1 2 3" for x, y, z in CUBE]
            rows += ["4 " + " ".join(map(str, quad)) for quad in QUADS]
            body = ("\n".join(rows) + "\n").encode()
        else:
            body = b"".join(np.array(c, f"{order}f4").tobytes() + bytes([1, 2, 3]) for c in CUBE)
            body += b"".join(b"\4" + np.array(quad, f"{order}i4").tobytes() for quad in QUADS)
        (folder / "a.ply").write_bytes(head.encode() + body)

    return make


def triangles() -> list[tuple[int, int, int]]:
    return [t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]


def stl(binary: bool) -> Callable[[Path], object]:
    """A cube as STL."""

    def make(folder: Path) -> None:
        faces = np.array(CUBE, "<f4")[np.array(triangles())]
        if binary:
            rows = b"".join(np.zeros(3, "<f4").tobytes() + face.tobytes() + b"\0\0" for face in faces)
            data = b"\0" * 80 + len(faces).to_bytes(4, "little") + rows
        else:
            corners = ("\n".join(f"vertex {x} {y} {z}" for x, y, z in face) for face in faces)
            body = "\n".join(f"facet normal 0 0 0\nouter loop\n{c}\nendloop\nendfacet" for c in corners)
            data = f"solid a\n{body}\nendsolid a\n".encode()
        (folder / "a.stl").write_bytes(data)

    return make


def off(folder: Path) -> None:
    rows = [f"{x} {y} {z}" for x, y, z in CUBE] + ["4 " + " ".join(map(str, quad)) for quad in QUADS]
    (folder / "a.off").write_text("OFF\n8 6 0\n" + "\n".join(rows) + "\n")


def picture(suffix: str, mode: str = "RGB") -> Callable[[Path], object]:
    """A picture of noise, with EXIF where the format holds it."""

    def make(folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 4), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(mode)
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x0110] = 6, "maker", "camera"
        exif.get_ifd(0x8769)[0x920A] = 35.0
        exif.get_ifd(0x8769)[0xA405] = 50
        if suffix in (".heic", ".avif"):
            if suffix == ".heic":
                import pillow_heif

                pillow_heif.register_heif_opener()
            image.resize((64, 64)).save(folder / f"a{suffix}", exif=exif)
        else:
            image.save(folder / f"a{suffix}", **({"exif": exif} if suffix != ".bmp" else {}))

    return make


def deep_png(folder: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 8, 3), dtype=np.uint16)
    (folder / "a.png").write_bytes(make_media.deep_png(values))


def deep_tiff(folder: Path) -> None:
    import tifffile

    tifffile.imwrite(folder / "a.tif", np.random.default_rng(0).random((6, 8, 3), dtype=np.float32))


def exr(folder: Path) -> None:
    import OpenEXR

    pixels = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"RGB": pixels}) as file:
        file.write(str(folder / "a.exr"))


def tone() -> np.ndarray:
    return (0.3 * np.sin(np.arange(2000) * 0.2)).astype(np.float32)[:, None]


def sound_wav(folder: Path) -> None:
    (folder / "a.wav").write_bytes(wav(tone(), 8000))


def sound(suffix: str, codec: str) -> Callable[[Path], object]:
    """A tone through PyAV."""

    def make(folder: Path) -> None:
        import av

        with av.open(str(folder / f"a{suffix}"), "w") as file:
            stream = file.add_stream(codec, rate=44100)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray((tone().T * 30000).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate = 44100
            for packet in (*stream.encode(frame), *stream.encode(None)):
                file.mux(packet)

    return make


def film(folder: Path) -> None:
    from neuralfields.pictures.film import write_video

    noise = np.random.default_rng(0)
    write_video(folder / "a.mp4", [noise.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)], 10)


def glb(folder: Path) -> None:
    """A box with colours, as glTF in one file."""
    import trimesh

    box = trimesh.creation.box((1.0, 2.0, 3.0))
    box.visual.vertex_colors = np.full((len(box.vertices), 4), 200, np.uint8)
    (folder / "a.glb").write_bytes(box.export(file_type="glb"))
