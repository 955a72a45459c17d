"""Export trained models for other programs: safetensors, ONNX, int8."""
