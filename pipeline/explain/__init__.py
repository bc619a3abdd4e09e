"""What a trained network sees: pictures and figures of one network and its out-of-fold rows."""
