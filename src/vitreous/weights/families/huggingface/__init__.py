"""The models of Hugging Face's transformers, with their config.json and image processors."""
