"""What tasks do when they run: imported then, and by no DAG file."""
