"""What every part of the pipeline uses: errors, files, processes, series, metrics and tables."""
