"""What a pair looks at, and when."""
