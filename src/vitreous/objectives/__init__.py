"""Losses: batch in, (loss, numbers) out."""
