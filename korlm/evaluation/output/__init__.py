"""Terminal tables, TSV files and plots of an evaluation."""
