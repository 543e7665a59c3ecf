//! Which models exist where: what decides between the pools for a model's name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use crate::{
    pool::{Draw, Drawn, Target, key::ApiType},
    ports::{Connection as _, Ports, Row, SqlError, UnixMillis, Value},
    store::{self, Database, hand::Source, migrations, upkeep::Marks},
    translate::model,
};

/// The models that endpoints list, as learnt when keys were added and checked, and the operator's aliases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Names that clients use, and what they stand for.
    pub aliases: BTreeMap<String, String>,
    /// The endpoints by type and model.
    endpoints: HashMap<(ApiType, String), Rc<[Rc<str>]>>,
}

/// One pool that may serve a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whose keys.
    pub api_type: ApiType,
    /// The model's name there.
    pub model: String,
    /// Only the keys of these endpoints; `None` for all.
    pub endpoints: Option<Rc<[Rc<str>]>>,
}

impl Catalogue {
    /// Reads the catalogue, in one row: a host hands rows over one by one. Its size is bounded: what an endpoint lists is cut
    /// off when it is learnt.
    pub async fn read<P: Ports>(database: &Database<P>) -> Result<Self, SqlError> {
        let rows = database.execute_with_version(&read_sql(), &[]).await?;
        Ok(Self::of(rows.first().unwrap_or(const { &Row(Vec::new()) })))
    }

    /// The same where instances tell each other what they have read: none of it is a secret.
    pub async fn read_shared<P: Ports>(database: &Database<P>, now: UnixMillis) -> Result<Self, SqlError> {
        let rows = database.read_shared("catalogue", &read_sql(), &[], now).await?;
        Ok(Self::of(rows.first().unwrap_or(const { &Row(Vec::new()) })))
    }

    /// The same, and in the same statement a hand for what the request that waits most likely wants. The draw
    /// that comes back is that of the hand.
    pub async fn read_with_hand<P: Ports>(
        database: &Database<P>,
        mut draw: Draw,
        source: &Source,
        start: i64,
        size: usize,
        now: UnixMillis,
    ) -> Result<(Self, Draw, Option<(Drawn, Marks)>), SqlError> {
        let (row, hand) = store::hand::draw_with(database, COLUMNS, &draw, source, start, size, now).await?;
        let catalogue = Self::of(&row);
        if draw.api_type == ApiType::OpenAi {
            let listed = catalogue.listed(ApiType::OpenAi, &draw.model);
            draw.endpoints = listed.and_then(|choice| choice.endpoints);
        }
        Ok((catalogue, draw, hand))
    }

    fn of(row: &Row) -> Self {
        let listed: Vec<(Cow<'_, str>, Cow<'_, str>, Cow<'_, str>)> =
            serde_json::from_str(row.text(2)).unwrap_or_default();
        let mut endpoints: HashMap<_, Vec<Rc<str>>> = HashMap::new();
        for (api_type, model, base_url) in &listed {
            let Some(api_type) = ApiType::parse(api_type) else {
                continue;
            };
            endpoints
                .entry((api_type, model.clone().into_owned()))
                .or_default()
                .push(Rc::from(&**base_url));
        }
        let aliases = serde_json::from_str(row.text(1)).unwrap_or_default();
        let endpoints = endpoints
            .into_iter()
            .map(|(model, urls)| (model, Rc::from(urls)))
            .collect();
        Self { aliases, endpoints }
    }

    /// The pool that serves a model where no alias and no endpoint says otherwise.
    pub fn guess(requested: &str) -> Choice {
        let choices = Self::default().choices(requested);
        let anywhere = || Choice::anywhere(ApiType::OpenAi, requested);
        choices.into_iter().next().unwrap_or_else(anywhere)
    }

    /// The pools that may serve a model, the best first. A later one is for when the one before has no keys at all: a
    /// model is never replaced by another.
    pub fn choices(&self, requested: &str) -> Vec<Choice> {
        let name = self.aliases.get(requested).map_or(requested, String::as_str);
        // What an endpoint lists under its full name is that endpoint's, whatever the name looks like.
        if let Some(listed) = self.listed(ApiType::OpenAi, name)
            && (name.contains('/') || !model::is_gemini(name))
        {
            return vec![listed];
        }
        if let Some(bare) = name.strip_prefix("gemini/") {
            return vec![Choice::anywhere(ApiType::Gemini, bare)];
        }
        if let Some(bare) = name.strip_prefix("openai/") {
            return vec![
                self.listed(ApiType::OpenAi, bare)
                    .unwrap_or_else(|| Choice::anywhere(ApiType::OpenAi, bare)),
            ];
        }
        let openai = self.listed(ApiType::OpenAi, name);
        if model::is_gemini(name) {
            let gemini = Choice::anywhere(ApiType::Gemini, model::bare(name));
            return vec![
                gemini,
                openai.unwrap_or_else(|| Choice::anywhere(ApiType::OpenAi, name)),
            ];
        }
        let mut choices = vec![openai.unwrap_or_else(|| Choice::anywhere(ApiType::OpenAi, name))];
        choices.extend(self.listed(ApiType::Gemini, name));
        choices
    }

    fn listed(&self, api_type: ApiType, name: &str) -> Option<Choice> {
        let endpoints = self.endpoints.get(&(api_type, name.to_owned()))?;
        Some(Choice {
            api_type,
            model: name.to_owned(),
            endpoints: Some(Rc::clone(endpoints)),
        })
    }
}

impl Choice {
    /// All keys of a type.
    pub fn anywhere(api_type: ApiType, model: &str) -> Self {
        Self {
            api_type,
            model: model.to_owned(),
            endpoints: None,
        }
    }

    /// What a key is leased for.
    pub fn target(&self, group: &str) -> Target {
        Target {
            group: Rc::from(group),
            api_type: self.api_type,
            model: Rc::from(self.model.as_str()),
            endpoints: self.endpoints.clone(),
            sticky: None,
            pinned: false,
        }
    }
}

/// Keeps what an endpoint lists, in place of what it listed before.
pub async fn learn<P: Ports>(
    database: &Database<P>,
    api_type: ApiType,
    url: &str,
    models: &[&str],
) -> Result<(), SqlError> {
    let mut listed: Vec<&str> = models.to_vec();
    listed.sort_unstable();
    listed.dedup();
    listed.truncate(MOST_LEARNT);
    let parameters = [Value::from(api_type.as_str()), Value::from(url)];
    let known = database
        .execute(
            "SELECT model FROM endpoint_models WHERE api_type = ? AND base_url = ? ORDER BY model",
            &parameters,
        )
        .await?;
    // Nothing is written where nothing is new.
    if known.iter().map(|row| row.text(0)).eq(listed.iter().copied()) {
        return Ok(());
    }
    let models = Value::Text(serde_json::json!(listed).to_string());
    let [api_type, url] = parameters;
    database
        .transaction(async |connection| {
            let gone = "DELETE FROM endpoint_models WHERE api_type = ?1 AND base_url = ?2";
            connection.execute(gone, &[api_type.clone(), url.clone()]).await?;
            let new = "INSERT INTO endpoint_models (api_type, base_url, model)
                SELECT ?1, ?2, value FROM json_each(?3) WHERE true ON CONFLICT DO NOTHING";
            connection
                .execute(new, &[api_type.clone(), url.clone(), models.clone()])
                .await
                .map(drop)
        })
        .await
}

/// The endpoints that a group has keys for, as stored: empty for a type's default.
pub async fn endpoints<P: Ports>(database: &Database<P>, group: &str) -> Result<Vec<(ApiType, String)>, SqlError> {
    let sql = "SELECT DISTINCT api_type, base_url FROM keys WHERE grp = ? AND enabled = 1 AND state <> 'dead' LIMIT 50";
    let rows = database.execute(sql, &[Value::from(group)]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| Some((ApiType::parse(row.text(0))?, row.text(1).to_owned())))
        .collect())
}

fn read_sql() -> String {
    let [version, aliases, models] = COLUMNS;
    format!("SELECT ({version}), ({aliases}), ({models})")
}

/// What the catalogue is made of. The setting is that of [`ALIASES`].
const COLUMNS: [&str; 3] = [
    migrations::VERSION,
    "SELECT value FROM settings WHERE name = 'aliases'",
    "SELECT json_group_array(json_array(api_type, model, base_url)) FROM endpoint_models",
];

/// How many models are kept of one endpoint.
const MOST_LEARNT: usize = 2000;

/// The name of the setting that holds the aliases, as a JSON object.
pub const ALIASES: &str = "aliases";

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let at = |urls: &[&str]| -> Rc<[Rc<str>]> { urls.iter().map(|url| Rc::from(*url)).collect() };
        Catalogue {
            aliases: BTreeMap::from([("fast".to_owned(), "gemini-2.5-flash".to_owned())]),
            endpoints: HashMap::from([
                (
                    (ApiType::OpenAi, "llama-4".to_owned()),
                    at(&["https://a.example/v1", "https://b.example/v1"]),
                ),
                (
                    (ApiType::OpenAi, "openai/gpt-4o".to_owned()),
                    at(&["https://router.example/v1"]),
                ),
                (
                    (ApiType::OpenAi, "google/gemini-2.5-pro".to_owned()),
                    at(&["https://router.example/v1"]),
                ),
                (
                    (ApiType::Gemini, "aurora-1".to_owned()),
                    at(&["https://generativelanguage.googleapis.com"]),
                ),
            ]),
        }
    }

    #[test]
    fn a_models_name_decides_the_pool() {
        // Each choice: type, name upstream, number of endpoints (0 = any).
        let cases: [(&str, &[(ApiType, &str, usize)]); 11] = [
            ("gpt-4o", &[(ApiType::OpenAi, "gpt-4o", 0)]),
            ("llama-4", &[(ApiType::OpenAi, "llama-4", 2)]),
            (
                "gemini-2.5-flash",
                &[
                    (ApiType::Gemini, "gemini-2.5-flash", 0),
                    (ApiType::OpenAi, "gemini-2.5-flash", 0),
                ],
            ),
            (
                "models/gemini-x",
                &[
                    (ApiType::Gemini, "gemini-x", 0),
                    (ApiType::OpenAi, "models/gemini-x", 0),
                ],
            ),
            ("gemini/anything", &[(ApiType::Gemini, "anything", 0)]),
            ("openai/llama-4", &[(ApiType::OpenAi, "llama-4", 2)]),
            ("openai/gpt-4o", &[(ApiType::OpenAi, "openai/gpt-4o", 1)]),
            (
                "google/gemini-2.5-pro",
                &[(ApiType::OpenAi, "google/gemini-2.5-pro", 1)],
            ),
            ("openai/gpt-5", &[(ApiType::OpenAi, "gpt-5", 0)]),
            (
                "fast",
                &[
                    (ApiType::Gemini, "gemini-2.5-flash", 0),
                    (ApiType::OpenAi, "gemini-2.5-flash", 0),
                ],
            ),
            (
                "aurora-1",
                &[(ApiType::OpenAi, "aurora-1", 0), (ApiType::Gemini, "aurora-1", 1)],
            ),
        ];
        for (name, expected) in cases {
            let choices = catalogue().choices(name);
            let found: Vec<_> = choices
                .iter()
                .map(|choice| {
                    (
                        choice.api_type,
                        choice.model.as_str(),
                        choice.endpoints.as_ref().map_or(0, |urls| urls.len()),
                    )
                })
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
