"""Checkpoints of MusicGen's shape, written tensor by tensor."""

import numpy as np

from benchmarks.random_checkpoint import write
from segue.checkpoints.opening import open_checkpoint


def test_it_is_a_checkpoint_of_the_shape_that_is_written_once(tmp_path):
    folder = write("toy", tmp_path, layers=3)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.config.lm.num_layers == 3
    values = checkpoint.lm["decoder.model.decoder.layers.2.fc1.weight"].read()
    assert values.dtype == np.float16
    assert len(np.unique(values)) > values.size / 10  # weights differ
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert write("toy", tmp_path, layers=3) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
