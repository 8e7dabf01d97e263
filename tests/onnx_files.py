"""onnxruntime's side of pytorch_files.rs: runs NAME.onnx of a folder, and compares with what we found.

    python3 tests/onnx_files.py FOLDER

NAME.safetensors has an input `x` of three images, and our logits `y`.
"""

import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

# Of the largest logit.
TOLERANCE = 1e-5

files = sorted(Path(sys.argv[1]).glob("*.onnx"))
assert files, "no file to run"
for file in files:
    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"made for": "a test", "é": "ü"}
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert x.name == "input" and y.name == "output"
    found = load_file(file.with_suffix(".safetensors"))
    assert x.shape == ["batch", *found["x"].shape[1:]], x.shape
    assert y.shape == ["batch", *found["y"].shape[1:]], y.shape
    largest = numpy.abs(found["y"]).max()
    assert largest > 0.01
    for batch in (1, 3):
        (logits,) = session.run(None, {"input": found["x"][:batch]})
        error = numpy.abs(logits - found["y"][:batch]).max() / largest
        print(f"{file.stem}, batch of {batch}: error {error:.1e} of {largest:.2f}")
        assert error <= TOLERANCE, file
    names = [tensor.name for tensor in onnx.load(str(file)).graph.initializer]
    assert {"linear.weight", "5.weight", "head.weight"} & set(names) and len(set(names)) == len(names), names
