"""Image files as containers: what stands where, found in bounded time, before any decoder sees a byte.

Each module here surveys one format: it counts what costs time to decode (scans, frames, directories, chunks), finds the
orientation wherever it lies, and leaves out what no pixel depends on (texts, profiles, thumbnails, further frames), so
that no reader behind it unpacks that.
"""
