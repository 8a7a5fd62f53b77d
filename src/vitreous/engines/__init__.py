"""Who computes: torch, or where an exported model runs without it, ONNX Runtime or OpenVINO."""
