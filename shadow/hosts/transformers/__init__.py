"""Programs that generate with Hugging Face transformers, whose caches are met where ``generate`` prepares them."""
