"""For those who write scripts: a pipeline that hands back its best answer, a callback that judges, a reward.

::

    refined = refine(StableDiffusionInpaintPipeline.from_pretrained(...), candidates=4)
    picture = refined(prompt="a red ball", image=photo, mask_image=mask).images[0]
"""

from editcritic.plugin.diffusers.callback import CritiqueCallback
from editcritic.plugin.diffusers.drop_in import CriticInpaint, Refined, refine
from editcritic.plugin.diffusers.reward import CriticReward, Reward, RewardMissing

__all__ = [
    "CriticInpaint",
    "CriticReward",
    "CritiqueCallback",
    "Refined",
    "Reward",
    "RewardMissing",
    "refine",
]
