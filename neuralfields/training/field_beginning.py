"""What a fit of a field begins with beside its photos: the depth that a plane sweep of them finds."""

import time
from dataclasses import replace

from neuralfields.captures.images import LoadedFrames
from neuralfields.progress import Progress
from neuralfields.scene import Scene
from neuralfields.splatting.swept_depth import SweptDepth, swept_depth
from neuralfields.training.plan import SHORTEST_FIT, FitPlan


def swept_beginning(
    scene: Scene, plan: FitPlan, loaded: LoadedFrames, taught: bool, progress: Progress
) -> tuple[SweptDepth | None, FitPlan]:
    """The depth that photos agree on, and the plan with the time left; None where it is of no use.

    Not where depth is `taught` by something else, poses may be wrong, something moves, or the fit is short.
    """
    options, weight = plan.options, plan.settings.swept_depth_weight
    useless = taught or options.sparse_depth or options.refine_poses or scene.bounds.times is not None or not weight
    lenses = any(camera.model != "perspective" for camera in loaded.cameras)
    if useless or lenses or plan.budget.shorter_than(SHORTEST_FIT):
        return None, plan
    begin = time.perf_counter()
    found = swept_depth(loaded, scene.bounds, weight)
    if found is not None:
        progress.note(found.line)
    if plan.budget.seconds is None:
        return found, plan
    left = max(1.0, plan.budget.seconds - (time.perf_counter() - begin))
    return found, replace(plan, budget=replace(plan.budget, seconds=left))
