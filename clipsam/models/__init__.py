"""Pure ``nn.Module`` classes: SAM with conditioning, CLIP with Surgery, adapters."""
