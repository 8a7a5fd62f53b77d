"""The engines that compute: torch, or ONNX Runtime and OpenVINO for exported models, which run without torch."""
