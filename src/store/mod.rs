//! The database: schema, statements and row mapping.

pub mod migrations;
