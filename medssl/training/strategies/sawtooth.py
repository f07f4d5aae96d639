"""The decoder alone first, then everything, each with a schedule of its own."""

from typing import Annotated

from pydantic import Field

from medssl.models.encoders.base import Encoder
from medssl.training.schedule import ScheduleConfig
from medssl.training.strategies.base import Strategy

Share = Annotated[float, Field(gt=0, lt=1)]


class Sawtooth(Strategy):
    """A decoder that begins at random does not pull a pretrained encoder out of place.

    Wald et al., "An OpenMind for 3D medical vision self-supervised learning" (2024,
    arXiv:2412.17041): in two teeth the rate rises and falls, with the encoder frozen in the first.
    Their 1000 epochs are 25 of rise and 25 of fall for the decoder, then 50 of rise and 900 of
    fall for everything; the defaults are these shares. How it falls is up to ``schedule``, whose
    own warm-up is not used. Unlike theirs, the decoder's momentum lasts from tooth to tooth.
    """

    class Config(Strategy.Config):
        decoder_share: Share = 0.05
        """Share of all steps in which the encoder is frozen."""
        decoder_warmup_share: Share = 0.5
        """Share of those steps in which the rate rises."""
        decoder_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
        """Peak rate of those steps over that of the rest; 0.1 or 0.01 for transformers, whose
        decoder would diverge."""
        warmup_share: Share = 0.05
        """Share of all steps in which the rate of everything rises."""

    config: Config

    def alone(self, steps: int) -> int:
        """Return in how many of the first steps, of all ``steps``, the decoder trains alone."""
        return min(max(round(self.config.decoder_share * steps), 1), steps - 1)

    def factor(self, step: int, schedule: ScheduleConfig) -> float:
        config, alone = self.config, self.alone(schedule.steps)
        if step < alone:
            rise = round(config.decoder_warmup_share * alone)
            return config.decoder_rate * _tooth(schedule, alone, rise).factor(step)
        rise = round(config.warmup_share * schedule.steps)
        return _tooth(schedule, schedule.steps - alone, rise).factor(step - alone)

    def before_step(self, encoder: Encoder, step: int, steps: int) -> None:
        trains = step >= self.alone(steps)
        encoder.requires_grad_(trains)
        encoder.train(trains)


def _tooth(schedule: ScheduleConfig, steps: int, rise: int) -> ScheduleConfig:
    return schedule.model_copy(update={"steps": steps, "warmup_steps": min(rise, steps - 1)})
