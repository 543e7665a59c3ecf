//! Tools: what the model may call, and how functions are named.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use serde_json::{Map, Value, json};

use super::{
    model::{Family, Gemini},
    schema,
};
use crate::{
    error::ApiError,
    gemini::request::{FunctionCallingConfig, FunctionDeclaration, Functions, Tool, ToolConfig},
    openai::{Text, chat::ChatRequest, tools as wire},
};

/// Functions whose names Gemini would refuse, by the names that they are sent with; and which functions stand for tools
/// that take free text.
#[derive(Clone, Debug, Default)]
pub struct Names {
    originals: HashMap<String, String>,
    sent: HashMap<String, String>,
    custom: HashSet<String>,
    is_legacy: bool,
}

impl Names {
    /// Whether the client declared `functions`, as clients did before there were tools: it looks for `function_call` in the
    /// answer, and can take one.
    pub const fn is_legacy(&self) -> bool {
        self.is_legacy
    }

    /// The name that the client knows a function by.
    pub fn original<'n>(&'n self, sent: &'n str) -> &'n str {
        self.originals.get(sent).map_or(sent, String::as_str)
    }

    /// Whether a function, by the name it was sent with, stands for a tool of the type `custom`: its one argument `input`
    /// is what such a tool is called with.
    pub fn is_custom(&self, sent: &str) -> bool {
        self.custom.contains(sent)
    }

    /// The name that a function is sent with.
    pub(super) fn sent<'a>(&self, original: Cow<'a, str>) -> Cow<'a, str> {
        match self.sent.get(&*original) {
            Some(sent) => Cow::Owned(sent.clone()),
            None => valid(original),
        }
    }

    /// Finds a name to send for a function that is declared; `None` when it was declared before.
    fn declare<'a>(&mut self, original: Cow<'a, str>, taken: &mut HashSet<String>) -> Option<Cow<'a, str>> {
        if self.sent.contains_key(&*original)
            || (taken.contains(&*original) && !self.originals.contains_key(&*original))
        {
            return None;
        }
        let mut name = valid(original.clone());
        for number in 2.. {
            if !taken.contains(&*name) {
                break;
            }
            let start: String = name.chars().take(LONGEST - 8).collect();
            name = Cow::Owned(format!("{start}_{number}"));
        }
        taken.insert(name.to_string());
        if name != original {
            self.originals.insert(name.to_string(), original.to_string());
            self.sent.insert(original.into_owned(), name.to_string());
        }
        Some(name)
    }
}

/// What a request says of tools, as Gemini takes it.
#[derive(Debug, Default)]
pub(super) struct Tools<'a> {
    pub(super) tools: Vec<Tool<'a>>,
    pub(super) config: Option<ToolConfig<'a>>,
    pub(super) names: Names,
}

/// Translates the fields of a request that are about tools, and takes them out of it. `extra` are tools of Google's own in
/// Google's own form.
pub(super) fn translate<'a>(
    request: &mut ChatRequest<'a>,
    gemini: &Gemini<'_>,
    extra: Vec<Map<String, Value>>,
) -> Result<Tools<'a>, ApiError> {
    let mut names = Names::default();
    let (functions, mut built_in) = declared(request, &mut names)?;
    if request.web_search_options.is_some() || gemini.searches {
        built_in.push(entry("googleSearch"));
    }
    // The same tool is asked for in several ways.
    let mut seen: HashSet<String> = extra.iter().flat_map(Map::keys).map(|name| camel(name)).collect();
    built_in.retain(|tool| tool.keys().all(|name| seen.insert(name.clone())));
    built_in.extend(extra);
    let declares = |tool: &Map<String, Value>| tool.keys().any(|name| camel(name) == "functionDeclarations");
    let has_functions = !functions.is_empty() || built_in.iter().any(declares);
    if has_functions && gemini.family < Family::Gemini3 {
        // Older models refuse both together, and the functions are what the client waits for.
        built_in.retain(declares);
    }
    let is_mixed = has_functions && !built_in.iter().all(declares);
    let choice = request.tool_choice.take();
    let calling = match (choice, request.function_call.take()) {
        (Some(choice), _) => calling(choice, "tool_choice", &functions, &names)?,
        (None, Some(choice)) => calling(choice, "function_call", &functions, &names)?,
        (None, None) => None,
    };
    let mut config = calling.map(|calling| ToolConfig {
        function_calling_config: Some(calling),
        ..ToolConfig::default()
    });
    if is_mixed {
        let config = config.get_or_insert_default();
        config.include_server_side_tool_invocations = Some(true);
        config.function_calling_config.get_or_insert_with(|| mode("VALIDATED"));
    }
    let mut tools = Vec::new();
    if !functions.is_empty() {
        tools.push(Tool::Functions(Functions {
            function_declarations: functions,
        }));
    }
    tools.extend(built_in.into_iter().map(Tool::BuiltIn));
    Ok(Tools { tools, config, names })
}

/// A tool of Google's own, without options.
pub(super) fn entry(name: &str) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), json!({}))])
}

type Declared<'a> = (Vec<FunctionDeclaration<'a>>, Vec<Map<String, Value>>);

fn declared<'a>(request: &mut ChatRequest<'a>, names: &mut Names) -> Result<Declared<'a>, ApiError> {
    let mut functions = Vec::new();
    let mut built_in = Vec::new();
    let mut taken = HashSet::new();
    for (param, count) in [
        ("tools", request.tools.as_ref().map_or(0, Vec::len)),
        ("functions", request.functions.as_ref().map_or(0, Vec::len)),
    ] {
        if count > MOST {
            return Err(ApiError::invalid(
                param,
                format!("'{param}' can have at most {MOST} entries."),
            ));
        }
    }
    for (index, tool) in request.tools.take().unwrap_or_default().into_iter().enumerate() {
        let param = format!("tools[{index}]");
        let kind = tool.kind.ok_or_else(|| ApiError::missing(&format!("{param}.type")))?;
        match &*kind {
            "function" => {
                let param = format!("{param}.function");
                let function = tool.function.ok_or_else(|| ApiError::missing(&param))?;
                if function.name.as_deref() == Some("googleSearch") {
                    built_in.push(entry("googleSearch"));
                } else {
                    functions.extend(declare(function, &param, names, &mut taken)?);
                }
            }
            "custom" => {
                let param = format!("{param}.custom");
                let custom = tool.custom.ok_or_else(|| ApiError::missing(&param))?;
                let parameters = json!({
                    "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]
                });
                let function = wire::Function {
                    name: custom.name,
                    description: custom.description,
                    parameters: Some(parameters),
                };
                if let Some(declaration) = declare(function, &param, names, &mut taken)? {
                    names.custom.insert(declaration.name.to_string());
                    functions.push(declaration);
                }
            }
            kind if kind.starts_with("web_search") => built_in.push(entry("googleSearch")),
            "google_search" => built_in.push(entry("googleSearch")),
            "url_context" => built_in.push(entry("urlContext")),
            "code_execution" | "code_interpreter" => built_in.push(entry("codeExecution")),
            other => {
                let other: String = other.chars().take(64).collect();
                let param = format!("{param}.type");
                let message = format!("Invalid value for '{param}': tools of the type '{other}' are not supported.");
                return Err(ApiError::invalid(param, message));
            }
        }
    }
    names.is_legacy = functions.is_empty() && request.functions.as_ref().is_some_and(|list| !list.is_empty());
    for (index, function) in request.functions.take().unwrap_or_default().into_iter().enumerate() {
        functions.extend(declare(function, &format!("functions[{index}]"), names, &mut taken)?);
    }
    Ok((functions, built_in))
}

fn declare<'a>(
    function: wire::Function<'a>,
    param: &str,
    names: &mut Names,
    taken: &mut HashSet<String>,
) -> Result<Option<FunctionDeclaration<'a>>, ApiError> {
    let param = |field: &str| format!("{param}.{field}");
    let name = function.name.ok_or_else(|| ApiError::missing(&param("name")))?;
    if name.is_empty() {
        return Err(ApiError::invalid(param("name"), "A function's name is empty."));
    }
    let parameters = match function.parameters {
        None => None,
        Some(Value::Object(parameters)) => schema::parameters(parameters),
        Some(_) => {
            let param = param("parameters");
            let message = format!("Invalid value for '{param}': it has to be a JSON Schema, which is an object.");
            return Err(ApiError::invalid(param, message));
        }
    };
    Ok(names.declare(name.0, taken).map(|name| FunctionDeclaration {
        name,
        description: function.description,
        parameters_json_schema: parameters,
        parameters: None,
    }))
}

fn calling<'a>(
    choice: wire::ToolChoice<'a>,
    param: &str,
    functions: &[FunctionDeclaration<'a>],
    names: &Names,
) -> Result<Option<FunctionCallingConfig<'a>>, ApiError> {
    let invalid = |field: &str, why: &str| {
        let param = format!("{param}{field}");
        let message = format!("Invalid value for '{param}': {why}");
        ApiError::invalid(param, message)
    };
    let declared = |name: Option<Text<'a>>, field: &str| {
        let name = name.ok_or_else(|| ApiError::missing(&format!("{param}{field}")))?;
        let sent = names.sent(name.0);
        if functions.iter().any(|function| function.name == sent) {
            Ok(Text(sent))
        } else {
            Err(invalid(field, "no function of this name is among the tools."))
        }
    };
    let choice = match choice {
        wire::ToolChoice::Word(word) => {
            return match &*word {
                "auto" => Ok(None),
                "none" if functions.is_empty() => Ok(None),
                "none" => Ok(Some(mode("NONE"))),
                "required" | "any" if functions.is_empty() => Err(invalid("", "there are no functions to call.")),
                "required" | "any" => Ok(Some(mode("ANY"))),
                _ => Err(invalid(
                    "",
                    "it is one of auto, none and required, or names a function.",
                )),
            };
        }
        wire::ToolChoice::Object(choice) => choice,
    };
    let only = |mode: &'static str, names| FunctionCallingConfig {
        mode: Some(Text::from_static(mode)),
        allowed_function_names: Some(names),
    };
    match choice.kind.as_deref() {
        Some("function") => {
            let function = choice
                .function
                .ok_or_else(|| ApiError::missing(&format!("{param}.function")))?;
            Ok(Some(only("ANY", vec![declared(function.name, ".function.name")?])))
        }
        Some("custom") => {
            let custom = choice
                .custom
                .ok_or_else(|| ApiError::missing(&format!("{param}.custom")))?;
            Ok(Some(only("ANY", vec![declared(custom.name, ".custom.name")?])))
        }
        None if choice.name.is_some() => Ok(Some(only("ANY", vec![declared(choice.name, ".name")?]))),
        Some("allowed_tools") => {
            let field = ".allowed_tools";
            let allowed = choice
                .allowed_tools
                .ok_or_else(|| ApiError::missing(&format!("{param}{field}")))?;
            let mode = match allowed.mode.as_deref() {
                Some("auto") => "VALIDATED",
                Some("required") => "ANY",
                _ => return Err(invalid(".allowed_tools.mode", "it is one of auto and required.")),
            };
            let mut names = Vec::new();
            for (index, tool) in allowed.tools.unwrap_or_default().into_iter().enumerate() {
                let kind = if tool.custom.is_some() { "custom" } else { "function" };
                let name = tool.function.and_then(|function| function.name);
                let name = name.or_else(|| tool.custom.and_then(|custom| custom.name));
                names.push(declared(name, &format!(".allowed_tools.tools[{index}].{kind}.name"))?);
            }
            if names.is_empty() {
                return Err(invalid(".allowed_tools.tools", "it names no tool."));
            }
            Ok(Some(only(mode, names)))
        }
        _ => Err(invalid(".type", "it is one of function, custom and allowed_tools.")),
    }
}

/// A mode of calling functions, for all of them.
pub(super) fn mode<'a>(mode: &'static str) -> FunctionCallingConfig<'a> {
    FunctionCallingConfig {
        mode: Some(Text::from_static(mode)),
        allowed_function_names: None,
    }
}

/// A name that Gemini takes: `[A-Za-z_][A-Za-z0-9_.:-]{0,127}`.
fn valid(name: Cow<'_, str>) -> Cow<'_, str> {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    let starts_well = name.bytes().next().is_some_and(is_start);
    if starts_well && name.len() <= LONGEST && name.bytes().all(is_inner) {
        return name;
    }
    let mut valid = String::from(if starts_well { "" } else { "_" });
    let inner = |character: char| {
        if u8::try_from(character).is_ok_and(is_inner) {
            character
        } else {
            '_'
        }
    };
    valid.extend(name.chars().map(inner).take(LONGEST - 1));
    Cow::Owned(valid)
}

/// `google_search` as `googleSearch`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut characters = part.chars();
        camel.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
    }
    camel
}

const LONGEST: usize = 128;
/// Tools that one request may declare; Gemini's own limit is lower.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_gemini_refuses_are_changed_and_changed_back() {
        let mut names = Names::default();
        let mut taken = HashSet::new();
        let long = "x".repeat(200);
        for (original, sent) in [
            ("get_weather", Some("get_weather")),
            ("2fa", Some("_2fa")),
            ("_2fa", Some("_2fa_2")),
            ("2fa", None),
            ("_2fa", None),
            ("get_weather", None),
            ("-x", Some("_-x")),
            ("a/b c", Some("a_b_c")),
            ("a_b_c", Some("a_b_c_2")),
            ("日本", Some("___")),
            (&long, Some(&long[..127])),
        ] {
            let declared = names.declare(Cow::Borrowed(original), &mut taken);
            assert_eq!(declared.as_deref(), sent, "{original}");
            if let Some(sent) = sent {
                assert_eq!(names.original(sent), original);
                assert_eq!(names.sent(Cow::Borrowed(original)), sent);
            }
        }
        assert_eq!(names.sent(Cow::Borrowed("9 unknown")), "_9_unknown");
        assert_eq!(names.original("unknown"), "unknown");
    }

    #[test]
    fn a_tool_is_known_in_either_spelling() {
        assert_eq!(camel("google_search"), "googleSearch");
        assert_eq!(camel("googleSearch"), "googleSearch");
    }
}
