"""Korean minimal pairs, and the accuracy of language models on them."""
