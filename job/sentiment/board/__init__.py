"""TensorBoard, drawn from the event files of trainings and streams (docs/watching.md)."""
