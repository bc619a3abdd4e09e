"""Networks, augmentation, the training loop, and predictions with a trained network."""
