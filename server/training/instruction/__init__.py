"""Instruction tuning of multimodal models: EPAIQA's three stages, from label-free pairs."""
