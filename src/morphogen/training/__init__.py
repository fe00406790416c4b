"""The training loop, its optimizers, schedules, checkpoints, forecasts and distribution."""
