"""What a model bases its answers on, as arrays; looking inside never changes it."""
