"""The shape of a MusicGen model: what `config.json` and `xp.cfg` say, validated once.

Each part of a model has a module and a class here.  Field names are segue's;
`hugging_face_fields` and `audiocraft_fields` say what becomes of each field of the files, `schema`
how a field is read, and `interpolation` resolves the references in an `xp.cfg`.  Anything that
segue cannot run is refused here, so that the engines may assume what these classes promise.
"""

from .audiocraft_fields import FLAN, HIDDEN_DIMS_OF_T5
from .codec import CodecConfig
from .language_model import LMConfig, MelodyConfig
from .model import ModelConfig
from .quantization import QuantizationConfig, QuantizationParams
from .schema import FRAMES_PER_WINDOW, IncompleteConfigError
from .text_encoder import T5Config
from .training import MELODY, STYLE, TrainingConfig
from .write import to_hf

__all__ = [
    "FLAN",
    "FRAMES_PER_WINDOW",
    "HIDDEN_DIMS_OF_T5",
    "MELODY",
    "STYLE",
    "CodecConfig",
    "IncompleteConfigError",
    "LMConfig",
    "MelodyConfig",
    "ModelConfig",
    "QuantizationConfig",
    "QuantizationParams",
    "T5Config",
    "TrainingConfig",
    "to_hf",
]
