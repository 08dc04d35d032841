"""The deterministic effects, run again in a scratch folder and compared with what the log holds."""
