//! Functions that a model may call.

use std::collections::HashMap;

/// Functions that had to be renamed: by the name that was sent.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, String>);

impl Names {
    /// The name that the client knows a function by.
    pub fn original<'n>(&'n self, sent: &'n str) -> &'n str {
        self.0.get(sent).map_or(sent, String::as_str)
    }
}
