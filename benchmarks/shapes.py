"""Meshes as signed distance: overlap and Chamfer distance after 15 and 60 seconds of training.

python benchmarks/shapes.py [--quick] [--data FOLDER] [--seeds 3]

`iou`: of 131,072 points in the mesh's box. `chamfer`: mean distance between the surfaces, both ways, over the box's
diagonal; our surface marched at 192 cells. Reading the mesh and finding the distances of the samples is in the wall
time, not in the training time; so is the measuring. Needs the extra `mesh`.
"""

from collections.abc import Iterator

from signal_case import Case, arguments, run

MESHES = ("armadillo", "bunny", "spot", "fandisk")
SECONDS = (15, 60)
QUICK_STEPS = 10


def cases() -> Iterator[Case]:
    """Every mesh for every time, one seed after the other; a quick run takes one mesh and a few steps."""
    for seed in range(1 if CHOSEN.quick else CHOSEN.seeds):
        for mesh in MESHES[-1:] if CHOSEN.quick else MESHES:
            source = CHOSEN.data / "meshes" / f"{mesh}.obj"
            for seconds in SECONDS[:1] if CHOSEN.quick else SECONDS:
                budget = ["--steps", str(QUICK_STEPS)] if CHOSEN.quick else ["--minutes", str(seconds / 60)]
                labels = {"mesh": mesh, "budget_seconds": seconds, "seed": seed}
                yield source, ["--field", "hash", *budget, "--seed", str(seed)], labels


if __name__ == "__main__":
    CHOSEN = arguments(__doc__)
    run("shapes", "Meshes as signed distance, 15 and 60 seconds of training", CHOSEN, cases())
