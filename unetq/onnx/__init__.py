"""The integer program as a standard ONNX model with QuantizeLinear and DequantizeLinear, and that model run."""
