"""How a report looks: one module a format."""
