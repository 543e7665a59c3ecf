//! KeyStorm.
