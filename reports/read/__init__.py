"""Reading run directories without trusting them."""
