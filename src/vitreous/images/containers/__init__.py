"""Image files as containers: their structure, found in bounded time before any decoder sees a byte.

Each module here surveys one format: it counts what takes time to decode (scans, frames, directories, chunks), finds the
orientation wherever it is, and leaves out what no pixel depends on (texts, profiles, thumbnails, further frames), so
that no later reader unpacks it.
"""
