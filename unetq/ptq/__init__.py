"""Post-training quantisation: from a trained float network to a low-bit one, with images and no labels."""
