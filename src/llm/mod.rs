//! Language models: a provider trait, one file per wire format, retries, record and replay.
