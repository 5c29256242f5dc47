//! Settings: keys, the layers they come from, and the source of each value.
