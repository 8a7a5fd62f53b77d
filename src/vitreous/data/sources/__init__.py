"""Where examples are read from, all alike: files, arrays in memory, shards, digits, parts of others."""
