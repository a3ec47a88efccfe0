"""What a run will need and do: here, a training step measured."""

from linnet.plan.bench import StepMeasurement, measure_step

__all__ = ["StepMeasurement", "measure_step"]
