"""Importers: what turns a user's network into the workload. Each lives in its own module and is imported when used."""
