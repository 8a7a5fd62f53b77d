"""How good a model is: accuracy, probes, robustness, benchmarks, throughput."""
