"""Long forms of what the suite tries shortly; ``make torture`` runs them all."""
