"""The machine: devices, threads, the allocator, memory."""
