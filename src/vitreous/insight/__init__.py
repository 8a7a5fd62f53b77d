"""What a model goes by, as arrays; looking inside never changes it."""
