"""This computer, in this process: plans interpreted on an engine of ExecuTorch's or ONNX Runtime's."""
