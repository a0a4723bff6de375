"""Images, masks and data sets: readers, procedural scenes, augmentation."""
