//! Which keys are meant: the conditions that lists, changes, deletions and checks share.

use serde_json::json;

use crate::{
    pool::key::ApiType,
    ports::{UnixMillis, Value},
};

/// Which keys are meant. All conditions hold together; none means all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These keys, by number.
    pub ids: Option<Vec<i64>>,
    /// These keys, by the hash of their credential.
    pub hashes: Option<Vec<String>>,
    /// `active`, `cooling_down`, `dead` or `disabled`.
    pub status: Option<String>,
    /// Keys of this type.
    pub api_type: Option<ApiType>,
    /// Keys of this group.
    pub group: Option<String>,
    /// Keys of this endpoint, as stored.
    pub endpoint: Option<String>,
    /// Keys with this text in their mask, note, group, endpoint, project or last error.
    pub search: Option<String>,
    /// Keys of which the last check said this: `valid`, `invalid`, `limited` or `unknown`.
    pub result: Option<String>,
    /// Keys that were checked at this moment or later.
    pub checked_since: Option<i64>,
    /// Keys with a higher number: how a long piece of work goes on.
    pub after: Option<i64>,
}

impl Filter {
    /// The condition over `keys k`, with numbered parameters. `?1` is the present.
    pub(super) fn condition(&self, now: UnixMillis) -> (String, Vec<Value>) {
        let mut parameters = vec![Value::from(now)];
        let mut conditions = vec!["?1 = ?1".to_owned()];
        let mut add = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                parameters.push(value);
                conditions.push(condition.replace("??", &format!("?{}", parameters.len())));
            }
        };
        add(
            "k.id IN (SELECT value FROM json_each(??))",
            self.ids.as_ref().map(|ids| Value::Text(json!(ids).to_string())),
        );
        add(
            "k.secret_hash IN (SELECT value FROM json_each(??))",
            self.hashes
                .as_ref()
                .map(|hashes| Value::Text(json!(hashes).to_string())),
        );
        add(&format!("{STATUS} = ??"), self.status.as_deref().map(Value::from));
        add(
            "k.api_type = ??",
            self.api_type.map(|api_type| Value::from(api_type.as_str())),
        );
        add("k.grp = ??", self.group.as_deref().map(Value::from));
        add("k.base_url = ??", self.endpoint.as_deref().map(Value::from));
        add(
            "(k.masked LIKE ?? ESCAPE '\\' OR k.note LIKE ?? ESCAPE '\\' OR k.grp LIKE ?? ESCAPE '\\'
                OR k.base_url LIKE ?? ESCAPE '\\' OR k.project LIKE ?? ESCAPE '\\' OR k.last_error LIKE ?? ESCAPE '\\')",
            self.search.as_deref().map(|text| Value::Text(pattern(text))),
        );
        add("k.last_result = ??", self.result.as_deref().map(Value::from));
        add("k.last_checked_at >= ??", self.checked_since.map(Value::from));
        add("k.id > ??", self.after.map(Value::from));
        (conditions.join(" AND "), parameters)
    }
}

/// The pattern that finds a text anywhere, its own wildcards taken as they are written.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// A key's state in the administrator's words. A rest that is over is none.
pub(super) const STATUS: &str = "CASE WHEN k.enabled = 0 THEN 'disabled' WHEN k.state = 'dead' THEN 'dead'
    WHEN k.state = 'cooling_down' AND k.until > ?1 THEN 'cooling_down' ELSE 'active' END";
