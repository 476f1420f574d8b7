"""What goes on record: the words, the records, and what they add up to."""
