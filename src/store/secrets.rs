//! Secrets at rest: whether the operator's key opens them, and sealing those that lie open.

use serde_json::json;

use super::{Database, hand};
use crate::{
    ports::{Connection as _, Ports, SqlError, Value},
    secret::Secret,
    vault::Vault,
};

/// Whether the operator's key opens what is stored. The first and the last key are asked: old ones are sealed first, and new
/// ones are sealed when they come.
pub async fn fits<P: Ports>(database: &Database<P>, vault: &Vault) -> Result<bool, SqlError> {
    let sql = "SELECT secret FROM keys WHERE id IN ((SELECT MIN(id) FROM keys), (SELECT MAX(id) FROM keys))";
    let rows = database.execute(sql, &[]).await?;
    Ok(rows.iter().all(|row| vault.open(row.text(0)).is_ok()))
}

/// Secrets that lie open, with the numbers of their keys, the oldest first.
pub async fn plain<P: Ports>(database: &Database<P>, most: i64) -> Result<Vec<(i64, Secret)>, SqlError> {
    let sql = "SELECT id, secret FROM keys WHERE secret NOT LIKE 'sealed:1:%' ORDER BY id LIMIT ?";
    let rows = database.execute(sql, &[Value::from(most)]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.integer(0), Secret::new(row.text(1))))
        .collect())
}

/// Puts sealed secrets in the place of open ones: the key's number, the sealed form, and what it is found by. A key that was
/// added again since, sealed, is the same key: the open one goes.
pub async fn seal<P: Ports>(database: &Database<P>, rows: &[(i64, String, String)]) -> Result<(), SqlError> {
    let rows = Value::Text(json!(rows).to_string());
    database
        .transaction(async |connection| {
            let seal = "UPDATE OR IGNORE keys SET secret = sealed.secret, secret_hash = sealed.hash
                FROM (SELECT value ->> 0 AS id, value ->> 1 AS secret, value ->> 2 AS hash FROM json_each(?1)) AS sealed
                WHERE keys.id = sealed.id AND keys.secret NOT LIKE 'sealed:1:%'";
            connection.execute(seal, std::slice::from_ref(&rows)).await?;
            let twins = "DELETE FROM keys WHERE secret NOT LIKE 'sealed:1:%'
                AND id IN (SELECT value ->> 0 FROM json_each(?1))";
            connection.execute(twins, std::slice::from_ref(&rows)).await?;
            hand::wake(connection).await
        })
        .await
}
