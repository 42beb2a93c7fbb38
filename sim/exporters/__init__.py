"""Writes a workload to files that others read: our own JSON, ONNX, SCALE-Sim topology CSV."""
