//! What the fuzz targets do with their input.

pub mod configuration;
pub mod storage_log;
