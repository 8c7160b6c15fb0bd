"""What a .nfz holds, by its sections: quantised Gaussians (nfz.py) or small networks (neural_file.py)."""

from pathlib import Path
from typing import Any

from neuralfields.compression import neural, neural_file, nfz
from neuralfields.compression.container import unpack
from neuralfields.compression.quantised import dequantised
from neuralfields.gaussians import Gaussians


def read(data: bytes, path: Path | str) -> Gaussians:
    """The Gaussians of a file. Raises InputError with one line for any other."""
    sections = unpack(data, path)
    if neural_file.is_neural(sections):
        return neural.decoded(neural_file.scene_of(sections, len(data), path))
    return dequantised(nfz.decode(data, path))


def describe(data: bytes, path: Path | str) -> dict[str, Any]:
    """Plain data of a file: bytes of each section and of a Gaussian, `method`; of networks how it loads."""
    sizes = nfz.section_bytes(data, path)
    sections = unpack(data, path)
    if not neural_file.is_neural(sections):
        count = len(nfz.decode(data, path))
        return {"method": "coded", "sections": sizes, "bytes_each": len(data) / max(count, 1)}
    scene = neural_file.scene_of(sections, len(data), path)
    networks = scene.networks
    return {
        "method": "neuralgs",
        "networks": f"{networks.clusters} of width {networks.width}",
        "loads": arrivals(scene, sizes),
        "sections": sizes,
        "bytes_each": len(data) / max(len(scene), 1),
    }


def arrivals(scene: neural.NeuralScene, sizes: dict[str, int]) -> list[str]:
    """How many of the Gaussians, the most important first, are there after how many bytes."""
    arrived, count, lines = sizes["table"], 0, []
    for name, size in sizes.items():
        arrived += 0 if name in ("table", "padding") else size
        last = name.removeprefix("labels" if scene.networks.clusters > 1 else "places")
        if last.isdigit():
            count += len(scene.tiers[int(last)])
            lines.append(f"{count} of {len(scene)} Gaussians after {arrived} bytes")
    return lines
