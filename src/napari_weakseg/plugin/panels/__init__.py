"""One thin dock widget per task."""
