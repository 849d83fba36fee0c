"""How the built-in checkpoint was made: scores, sound, codec, language model, export."""
