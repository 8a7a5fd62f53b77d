"""Where examples are read from, behind one interface: files, arrays in memory, shards, digits, parts of others."""
