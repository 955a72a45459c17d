"""Unicode and Hangul; knows nothing else of korlm."""
