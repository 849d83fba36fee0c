"""A random MusicGen Melody by `transformers`, and what it makes of inputs.  Needs torch."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from transformers import (
    EncodecConfig,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)
from transformers.audio_utils import chroma_filter_bank

from segue.demo.toy import MELODY_CONFIG
from segue.pattern import delay

from .reference import TOTAL_FRAMES, randomise, with_codes

SPECTRUM, HOP, BINS = 16_384, 4096, 12


def make_model(seed: int = 0) -> MusicgenMelodyForConditionalGeneration:
    """A model with weights large enough that logits differ clearly."""
    torch.manual_seed(seed)
    decoder = MELODY_CONFIG["decoder"]
    special = {"pad_token_id": decoder["vocab_size"], "bos_token_id": decoder["vocab_size"]}
    config = MusicgenMelodyConfig(
        text_encoder=T5Config(**MELODY_CONFIG["text_encoder"]).to_dict(),
        audio_encoder=EncodecConfig(
            **(MELODY_CONFIG["audio_encoder"] | {"num_filters": 2})
        ).to_dict(),
        decoder=MusicgenMelodyDecoderConfig(**(decoder | special)).to_dict(),
        chroma_length=MELODY_CONFIG["chroma_length"],
    )
    model = MusicgenMelodyForConditionalGeneration(config).eval()
    randomise(model)
    generation = model.generation_config
    generation.decoder_start_token_id = generation.pad_token_id = decoder["vocab_size"]
    generation.bos_token_id = decoder["vocab_size"]
    generation.eos_token_id = None
    return model


def chroma(samples: np.ndarray) -> np.ndarray:
    """Features `(1, F, 12)` of samples `(T,)`, as MusicgenMelodyFeatureExtractor computes them.

    Its own needs torchaudio, whose spectrogram this is.
    """
    window = torch.hann_window(SPECTRUM)
    spectrum = torch.stft(
        torch.tensor(samples), SPECTRUM, HOP, window=window, center=True, return_complex=True
    )
    power = (spectrum.abs() / window.square().sum().sqrt()).square()
    filters = chroma_filter_bank(
        sampling_rate=32_000, num_frequency_bins=SPECTRUM, tuning=0, num_chroma=BINS
    )
    found = torch.tensor(filters).float() @ power
    return np.eye(BINS, dtype=np.float32)[found.argmax(0).numpy()][None]


@torch.no_grad()  # type: ignore[untyped-decorator]
def outputs(
    model: MusicgenMelodyForConditionalGeneration, ids: list[int], seed: int = 0
) -> dict[str, np.ndarray]:
    """What the model makes of random inputs, and the inputs, as numpy arrays."""
    random = np.random.default_rng(seed)
    K, V = model.config.decoder.num_codebooks, model.config.decoder.vocab_size
    # Notes of half a second each, for a melody that has one.
    pitches = 220 * 2 ** (random.integers(0, 24, 8) / 12)
    phase = 2 * np.pi * np.cumsum(np.repeat(pitches, 5000)) / 32_000
    melody = 0.3 * np.sin(phase) + 0.01 * random.standard_normal(len(phase))
    melody = melody.astype(np.float16).astype(np.float32)  # for a small file
    features = torch.tensor(chroma(melody))
    text = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
    codes = random.integers(0, V, (K, 40))
    sequence = delay(codes, tuple(range(K)), V)
    prompt = random.integers(0, V, (K, 50))
    found = {
        "ids": np.array(ids),
        "melody": melody[:, None],
        "chroma": features[0].numpy().argmax(axis=1),
        "sequence": sequence,
        "prompt": prompt,
    }
    for name, given in (("melody", {**text, "input_features": features}), ("text", text)):
        logits = model(decoder_input_ids=torch.tensor(sequence), **given).logits
        logits = logits.reshape(K, -1, V)[:, -sequence.shape[1] :]
        found[f"logits_{name}"] = logits.transpose(0, 1).numpy()
        options = {"guidance_scale": 3.0, "do_sample": False, "max_length": TOTAL_FRAMES + K}
        given |= {"decoder_input_ids": torch.tensor(prompt)}
        found[f"greedy_{name}"] = with_codes(model, partial(model.generate, **given, **options))[0]
    return found
