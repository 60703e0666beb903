//! Datasets: in memory or memory-mapped, readers and synthetic sets.
