"""Tables, TSV files and plots of an evaluation."""
