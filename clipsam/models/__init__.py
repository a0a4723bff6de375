"""Pure ``nn.Module``s: SAM with conditioning, CLIP with Surgery, adapters."""
