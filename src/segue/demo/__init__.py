"""The bundled checkpoint and prompts, for machines without others."""
