"""Pages that open in a browser from disk: one file each, nothing fetched, nothing executed but a copy button."""
