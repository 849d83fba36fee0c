"""Every field of a PEFT `adapter_config.json`: read, fixed, or without effect.

Facts from peft 0.21: `LoraConfig`, `PeftConfigMixin`, and `tuners/lora` that reads them.
"""

from __future__ import annotations

from .schema import ANYTHING, FLAG, TABLE, Fields, NoEffect, Only, Read, number, whole

_TRAINING = NoEffect("of training")
_LABEL = NoEffect("says what the file is or who made it")
_CHOICE = NoEffect("chose modules when training began; the tensors say which have an adapter")

_OTHER_BASE = "the weights that it is added to are not the model's own"

LORA: Fields = {
    "peft_type": Only(("LORA",), "another kind of adapter"),
    "r": Read(whole(), 8, "rank"),
    "lora_alpha": Read(number(-1e6, 1e6), 8.0, "alpha"),
    "use_rslora": Read(FLAG, False, "rank_stabilized"),
    "alpha_pattern": Read(TABLE, {}, "alphas"),
    "rank_pattern": NoEffect("the tensors' shapes say it"),
    "fan_in_fan_out": Only((False,), "weights are stored transposed, which MusicGen's are not"),
    "init_lora_weights": Read(ANYTHING, True, "initialisation"),
    "use_dora": NoEffect("there is a tensor lora_magnitude_vector where it is so"),
    "lora_bias": Only((False,), "adapters have biases"),
    "bias": NoEffect("biases that were trained are among the tensors"),
    "modules_to_save": NoEffect("modules that were trained whole are among the tensors"),
    "trainable_token_indices": Only((None,), "single rows of embeddings were trained"),
    "layer_replication": Only((None,), "layers are repeated"),
    "target_parameters": Only((None, []), "parameters outside linear layers have adapters"),
    "alora_invocation_tokens": Only((None,), "the adapter is active after some tokens only"),
    "use_qalora": Only((False,), "the adapter belongs to a quantized model"),
    "use_bdlora": Only((None, False), "the adapter's products are block-diagonal"),
    "arrow_config": Only((None,), "adapters are mixed for each token"),
    "kasa_config": Only((None,), _OTHER_BASE),
    "monteclora_config": Only((None,), "weights are drawn at random"),
    "velora_config": NoEffect("how gradients are kept in training"),
    "loftq_config": NoEffect("init_lora_weights says whether it was used"),
    "eva_config": NoEffect("init_lora_weights says whether it was used"),
    "corda_config": NoEffect("init_lora_weights says whether it was used"),
    "lora_ga_config": NoEffect("init_lora_weights says whether it was used"),
    "qalora_group_size": NoEffect("use_qalora says whether it was used"),
    "ensure_weight_tying": NoEffect("no weights of MusicGen's language model are tied"),
    "target_modules": _CHOICE,
    "exclude_modules": _CHOICE,
    "layers_to_transform": _CHOICE,
    "layers_pattern": _CHOICE,
    "lora_dropout": _TRAINING,
    "inference_mode": _TRAINING,
    "runtime_config": _TRAINING,
    "megatron_config": _TRAINING,
    "megatron_core": _TRAINING,
    "task_type": _LABEL,
    "auto_mapping": _LABEL,
    "peft_version": _LABEL,
    "revision": _LABEL,
    "base_model_name_or_path": _LABEL,
}

KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of `init_lora_weights` that leave the model's own weights as they are; the others (PiSSA,
OLoRA, CorDA, LoftQ, LoRA-GA) take the adapter's beginning out of them."""

OTHER_BASE = _OTHER_BASE
