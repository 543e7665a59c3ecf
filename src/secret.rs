//! Credentials that cannot be printed by accident.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A credential of a client, of an administrator or of an upstream. Its `Debug` form is the mask; there is no `Display`,
/// so that a secret reaches text only where [`Secret::expose`] is written out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a credential.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The credential itself: for the header that carries it upstream, for comparing and for sealing, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be shown: four characters at each end of a long credential, fewer of a short one.
    pub fn masked(&self) -> String {
        mask(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// A credential that callers are held against. Only its digest is kept, so that comparing takes the same time whatever the
/// length and content of what a caller sends. There is no `==`: it would not.
#[derive(Clone)]
pub struct Credential([u8; 32]);

impl Credential {
    /// Takes a credential in.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether a caller's credential is this one.
    pub fn matches(&self, given: &str) -> bool {
        self.0.ct_eq(&Self::new(given).0).into()
    }

    /// A digest of `text` that holds for this credential alone: what is named by it ends when the credential is changed.
    pub fn bind(&self, text: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(text).finalize().into()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// Hides the middle of `secret`. At least eight characters and two thirds of the text always stay hidden.
pub fn mask(secret: &str) -> String {
    let length = secret.chars().count();
    let shown = (length.saturating_sub(8) / 2).min(length / 6).min(4);
    let head: String = secret.chars().take(shown).collect();
    let tail: String = secret.chars().skip(length - shown).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_its_middle() {
        let cases = [
            ("", "…"),
            ("short", "…"),
            ("sk-0123456789", "sk…89"),
            ("sk-abcdefghijklmnopqrstuvwxyz", "sk-a…wxyz"),
            ("ключключключключключключ", "ключ…ключ"),
        ];
        for (secret, shown) in cases {
            assert_eq!(format!("{:?}", Secret::new(secret)), shown, "{secret}");
        }
    }

    #[test]
    fn a_credential_matches_itself_and_names_what_ends_with_it() {
        let credential = Credential::new("right");
        for (given, matches) in [
            ("right", true),
            ("Right", false),
            ("righ", false),
            ("right ", false),
            ("", false),
        ] {
            assert_eq!(credential.matches(given), matches, "{given}");
        }
        assert_eq!(credential.bind("x"), Credential::new("right").bind("x"));
        assert_ne!(credential.bind("x"), Credential::new("changed").bind("x"));
        assert_eq!(format!("{credential:?}"), "Credential");
    }
}
