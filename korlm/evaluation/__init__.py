"""What a trained model is worth: read in several ways, cached, adapted and mixed with others."""
